// Light or dark: as the system says until somebody chooses.
import { ref, watch } from "vue";

export type Theme = "light" | "dark";

const STORED = "citywatch.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

export const theme = ref<Theme>(stored() ?? (system.matches ? "dark" : "light"));

system.addEventListener("change", (event) => {
  if (stored() === null) theme.value = event.matches ? "dark" : "light";
});

watch(theme, (now) => document.documentElement.classList.toggle("dark", now === "dark"), { immediate: true });

export function chooseTheme(chosen: Theme): void {
  theme.value = chosen;
  try {
    localStorage.setItem(STORED, chosen);
  } catch {
    // a browser without storage forgets
  }
}

function stored(): Theme | null {
  try {
    const found = localStorage.getItem(STORED);
    return found === "light" || found === "dark" ? found : null;
  } catch {
    return null;
  }
}
