// The two languages of the console, and how times, durations and numbers are written in them. A text that one language
// has and the other lacks does not compile.
import { computed, ref, watch } from "vue";
import { createI18n } from "vue-i18n";

import en from "./en";
import zh from "./zh-CN";

export type Language = "zh-CN" | "en";
type Words = typeof zh;

const STORED = "citywatch.language";

export const language = ref<Language>(stored() ?? (navigator.language.startsWith("zh") ? "zh-CN" : "en"));

export const i18n = createI18n<[Words], Language, false>({
  legacy: false,
  locale: language.value,
  fallbackLocale: false as never,
  messages: { "zh-CN": zh, en: en as Words },
});

/** A text of the dictionary; for places that are no component. */
export const t = i18n.global.t;

/** The site's time zone: all times are shown in it, wherever the browser stands. */
export const timeZone = ref("Asia/Shanghai");

watch(
  language,
  (now) => {
    i18n.global.locale.value = now;
    document.documentElement.lang = now;
    try {
      localStorage.setItem(STORED, now);
    } catch {
      // a browser without storage forgets, nothing more
    }
  },
  { immediate: true },
);

const clock = computed(() => format({ hour: "2-digit", minute: "2-digit", second: "2-digit" }));
const day = computed(() => format({ month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit" }));
const full = computed(() =>
  format({ year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit" }),
);
const dateOnly = computed(() => format({ year: "numeric", month: "2-digit", day: "2-digit" }));
const number = computed(() => new Intl.NumberFormat(language.value, { maximumSignificantDigits: 5, useGrouping: true }));
const count = computed(() => new Intl.NumberFormat(language.value));

/** 20:15:04, with the day before it when that is not today. */
export function shortTime(iso: string | null | undefined, now = Date.now()): string {
  if (iso === null || iso === undefined) return "–";
  const at = new Date(iso);
  return dateOnly.value.format(at) === dateOnly.value.format(now) ? clock.value.format(at) : day.value.format(at);
}

/** Date and time to the second. */
export function fullTime(iso: string | null | undefined): string {
  return iso === null || iso === undefined ? "–" : full.value.format(new Date(iso));
}

/** 45 s, 12 min, 3 h 05, 2 d 4 h: as short as a table needs. */
export function duration(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return t("unit.seconds", { n: s });
  const minutes = Math.floor(s / 60);
  if (minutes < 60) return t("unit.minutes", { n: minutes });
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return t("unit.hours", { h: hours, m: String(minutes % 60).padStart(2, "0") });
  return t("unit.days", { d: Math.floor(hours / 24), h: hours % 24 });
}

export function numberText(value: number): string {
  return Number.isInteger(value) ? count.value.format(value) : number.value.format(value);
}

/** A reading as people write it: a number with its unit, yes or no, a state by its name. */
export function valueText(value: boolean | number | string | null | undefined, unit = ""): string {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? t("value.yes") : t("value.no");
  if (typeof value === "number") return unit === "" ? numberText(value) : `${numberText(value)} ${unit}`;
  return value;
}

/** The right one of the two languages in which the gateway gives its texts. */
export function said(text: { zh: string; en: string } | null | undefined): string {
  if (text === null || text === undefined) return "";
  return language.value === "zh-CN" ? text.zh || text.en : text.en || text.zh;
}

/** A row of the table of transitions (docs/alarms.md) in words. */
export function causeName(cause: string): string {
  const key = `cause.${cause}`;
  return i18n.global.te(key) ? t(key) : cause;
}

function format(options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  return new Intl.DateTimeFormat(language.value, { ...options, timeZone: timeZone.value, hourCycle: "h23" });
}

function stored(): Language | null {
  try {
    const found = localStorage.getItem(STORED);
    return found === "zh-CN" || found === "en" ? found : null;
  } catch {
    return null;
  }
}
