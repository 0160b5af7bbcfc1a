// The live alarm list. Plain JavaScript, no build; text reaches the page through textContent only.
"use strict";

const WORDS = {
  zh: {
    name: "城市更夫", signIn: "登录", signOut: "退出", token: "访问令牌", signInHint: "请输入首次启动时显示的令牌（cw_ 开头）。",
    alarms: "实时报警", level: "级别", state: "状态", alarm: "报警", value: "数值", since: "持续", search: "搜索报警、设施",
    connecting: "正在连接", live: "实时", lost: "连接中断", all: "全部", nothing: "当前没有报警", nothingMatches: "没有符合条件的报警",
    stale: (t) => `连接中断：列表停留在 ${t}，可能已过时。正在重新连接…`,
    why: "原因", flood: (n) => `报警洪水：10 分钟内 ${n} 条报警。请先处理 I、II 级，并按上级报警查看。`,
    more: (n) => `另有 ${n} 条未显示，请用筛选缩小范围`, cut: "报警过多，仅显示最严重的部分",
    choose: "选择一条报警查看详情", asset: "设施", rule: "规则", limit: "限值", raised: "发生时间", acked: "确认", comment: "备注",
    reset: "复位", resetHint: "已恢复，现场核实后复位",
    causes: { T3: "发生", T4: "开始恢复", T5: "再次越限", T6: "恢复", T7: "再次发生", T8: "级别上升", T9: "级别下降", T10: "确认", T11: "重复提醒",
      T12: "撤销确认", T13: "复位", T15: "搁置", T16: "搁置一次", T17: "取消搁置", T18: "搁置到期", T19: "搁置结束", T20: "被上级报警抑制",
      T21: "抑制解除", T22: "停用检修", T23: "恢复服务", T24: "规则变更", T25: "核实", T26: "事件",
      T27: "强制结束", T28: "数据质量变化", T29: "频繁波动", T30: "长时间未处理", T31: "消音", T32: "补记", comment: "备注", assign: "指派" },
    acknowledge: "确认报警", ackHint: "备注（可选）：谁去处理、预计多久", ackDone: "已确认", respond: "处置措施", points: "当前数据",
    readings: "最近一小时", history: "经过", noReadings: "暂无读数", parent: "上级报警", suppressedBy: "被抑制于", assigned: "指派",
    rate: (m, r) => `${m} 条/秒 · ${r} 读数/秒`, healthy: "系统正常", failing: (why) => `系统异常：${why}`,
    ago: (n, u) => `${n}${{ s: "秒", m: "分", h: "小时", d: "天" }[u]}`, badToken: "令牌无效、已过期或已撤销", failed: "操作未成功", simulated: "〔模拟〕",
    states: { UNACK: "未确认", ACKED: "已确认", RTNUN: "已恢复·未确认", SHLVD: "已搁置", DSUPR: "被抑制", OOSRV: "停用检修", NORM: "正常" },
    qualities: { good: "良好", uncertain: "可疑", bad: "坏值" }, on: "是", off: "否", by: "由", late: "补发", other: "English", otherLang: "en",
  },
  en: {
    name: "citywatch", signIn: "Sign in", signOut: "Sign out", token: "Token",
    signInHint: "Enter the token that was shown at the first start (it begins with cw_).",
    alarms: "Live alarms", level: "Level", state: "State", alarm: "Alarm", value: "Value", since: "For", search: "Search alarms, assets",
    connecting: "Connecting", live: "Live", lost: "Disconnected", all: "All", nothing: "No alarm stands", nothingMatches: "No alarm matches",
    stale: (t) => `Disconnected: the list is as of ${t} and may be out of date. Reconnecting…`,
    why: "Why", flood: (n) => `Alarm flood: ${n} alarms in 10 minutes. Levels I and II first; look at the causes.`,
    more: (n) => `${n} more not shown; narrow the filter`, cut: "Very many alarms: only the worst are shown",
    choose: "Choose an alarm to see more", asset: "Asset", rule: "Rule", limit: "Limit", raised: "Since", acked: "Acknowledged", comment: "Comment",
    reset: "Reset", resetHint: "Normal again: reset after a look on site",
    causes: { T3: "raised", T4: "clearing", T5: "above the limit again", T6: "cleared", T7: "raised again", T8: "level up", T9: "level down",
      T10: "acknowledged", T11: "reminded", T12: "acknowledgement taken back", T13: "reset", T15: "shelved", T16: "shelved once", T17: "unshelved",
      T18: "shelf over", T19: "shelf over", T20: "suppressed by its cause", T21: "no longer suppressed", T22: "out of service", T23: "in service",
      T24: "rule changed", T25: "confirmed", T26: "event", T27: "cleared by force", T28: "quality of its data", T29: "chattering",
      T30: "stands for a day", T31: "silenced", T32: "written afterwards", comment: "comment", assign: "assigned" },
    acknowledge: "Acknowledge", ackHint: "Comment (optional): who goes, how long it will take", ackDone: "Acknowledged", respond: "Response",
    points: "Reported now", readings: "The last hour", history: "What happened", noReadings: "No readings", parent: "Beneath",
    suppressedBy: "Suppressed by", assigned: "Assigned to",
    rate: (m, r) => `${m} msg/s · ${r} readings/s`, healthy: "All well", failing: (why) => `Not well: ${why}`,
    ago: (n, u) => `${n} ${{ s: "s", m: "min", h: "h", d: "d" }[u]}`, badToken: "This token is not known, has expired, or was revoked", failed: "Not done", simulated: "[simulated] ",
    states: { UNACK: "Unacknowledged", ACKED: "Acknowledged", RTNUN: "Cleared, unacknowledged", SHLVD: "Shelved", DSUPR: "Suppressed", OOSRV: "Out of service", NORM: "Normal" },
    qualities: { good: "good", uncertain: "uncertain", bad: "bad" }, on: "yes", off: "no", by: "by", late: "late", other: "中文", otherLang: "zh",
  },
};
const LEVELS = ["I", "II", "III", "IV"];
const SHAPES = { I: "■", II: "◆", III: "▲", IV: "●" };
const MARKS = { UNACK: "!", ACKED: "✓", RTNUN: "↩", SHLVD: "z", DSUPR: "⤷", OOSRV: "✕", NORM: "–" };
const STATE_ORDER = { UNACK: 0, RTNUN: 1, ACKED: 2, SHLVD: 3, OOSRV: 4, DSUPR: 5, NORM: 9 };
const SHOWN = 300;      // rows drawn at once
const STALE_MS = 20000; // the server says something every 15 s
const HEALTH_MS = 5000;

const $ = (id) => document.getElementById(id);
const state = {
  lang: localStorage.getItem("citywatch.lang") || (navigator.language.startsWith("zh") ? "zh" : "en"),
  who: null, alarms: new Map(), chosen: null, point: null, level: null, search: "", cut: false,
  stream: null, heard: 0, link: "connecting", drawing: false, draft: "", detail: null,
};
const rows = new Map();
const t = () => WORDS[state.lang];

// ------------------------------------------------------------------ small tools

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

async function api(path, { method = "GET", body } = {}) {
  const headers = { Accept: "application/json", "X-Citywatch": "1" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch("/api/v1" + path, {
    method, headers, body: body === undefined ? undefined : JSON.stringify(body), credentials: "same-origin", cache: "no-store",
  });
  const data = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (answer.ok || (path === "/health" && answer.status === 503)) return data;
  if (answer.status === 401 && path !== "/session") showSignIn();
  const error = new Error((data && data.titles && data.titles[state.lang]) || t().failed);
  error.status = answer.status;
  error.detail = data && data.detail;
  throw error;
}

const alarmPath = (id) => "/alarms/" + id.split("/").map(encodeURIComponent).join("%2F");
const title = (alarm) => (alarm.simulated ? t().simulated : "")
  + ((alarm.title && (alarm.title[state.lang] || alarm.title.zh || alarm.title.en)) || alarm.rule);
const clock = (iso) => (iso ? new Date(iso).toLocaleTimeString(state.lang === "zh" ? "zh-CN" : "en-GB", { hour12: false }) : "–");
const moment = (iso) => (iso ? new Date(iso).toLocaleString(state.lang === "zh" ? "zh-CN" : "en-GB", { hour12: false }) : "–");

function length(iso) {
  if (!iso) return "–";
  const s = Math.max(0, Math.floor((Date.now() - Date.parse(iso)) / 1000));
  if (s < 60) return t().ago(s, "s");
  if (s < 3600) return t().ago(Math.floor(s / 60), "m");
  if (s < 86400) return t().ago(Math.floor(s / 3600), "h");
  return t().ago(Math.floor(s / 86400), "d");
}

function value(v, unit) {
  if (v === null || v === undefined) return "–";
  if (typeof v === "boolean") return v ? t().on : t().off;
  const text = typeof v === "number" ? String(Math.abs(v) < 1e6 ? Number(v.toPrecision(4)) : Math.round(v)) : String(v);
  return unit ? `${text} ${unit}` : text;
}

// ------------------------------------------------------------------ words of the page

function translate() {
  document.documentElement.lang = state.lang === "zh" ? "zh-CN" : "en";
  document.title = state.lang === "zh" ? "城市更夫 citywatch" : "citywatch 城市更夫";
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t()[element.dataset.t];
  for (const element of document.querySelectorAll("[data-t-placeholder]")) element.placeholder = t()[element.dataset.tPlaceholder];
  for (const element of document.querySelectorAll("[data-t-label]")) element.setAttribute("aria-label", t()[element.dataset.tLabel]);
  $("lang").textContent = t().other;
  rows.clear();
  $("rows").replaceChildren();
  showLink();
  showFlood(state.load);
  draw();
  if (state.detail) drawDetail();
}

// ------------------------------------------------------------------ sign in

function showSignIn() {
  if (state.stream) state.stream.close();
  state.stream = null;
  state.who = null;
  $("work").hidden = true;
  $("sign-in").hidden = false;
  $("sign-out").hidden = true;
  $("who").textContent = "";
  $("stale").hidden = true;
  state.link = "connecting";
  showLink();
  $("token").focus();
}

async function enter() {
  try {
    state.who = await api("/session");
  } catch (error) {
    if (error.status === 401) showSignIn();
    else setTimeout(enter, 3000);
    return;
  }
  $("sign-in").hidden = true;
  $("work").hidden = false;
  $("sign-out").hidden = false;
  $("who").textContent = `${state.who.name} · ${state.who.role}`;
  listen();
}

$("sign-in-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("sign-in-error").textContent = "";
  try {
    await api("/session", { method: "POST", body: { token: $("token").value.trim() } });
    $("token").value = "";
    await enter();
  } catch (error) {
    $("sign-in-error").textContent = error.status === 401 || error.status === 422 ? t().badToken : error.message;
  }
});

$("sign-out").addEventListener("click", async () => {
  try { await api("/session", { method: "DELETE" }); } catch { /* it is over in any case */ }
  state.alarms.clear();
  state.chosen = null;
  showSignIn();
});

$("lang").addEventListener("click", () => {
  state.lang = t().otherLang;
  localStorage.setItem("citywatch.lang", state.lang);
  translate();
  health();
});

// ------------------------------------------------------------------ the live stream

function listen() {
  if (state.stream) state.stream.close();
  state.link = "connecting";
  showLink();
  const stream = new EventSource("/api/v1/stream");
  state.stream = stream;
  const heard = () => {
    state.heard = Date.now();
    if (state.link !== "live") { state.link = "live"; showLink(); }
  };
  stream.addEventListener("snapshot", (event) => {
    heard();
    const snapshot = JSON.parse(event.data);
    // Rules on trial are told to nobody: they are looked at through /api/v1/shadow.
    state.alarms = new Map(snapshot.alarms.filter((alarm) => !alarm.shadow).map((alarm) => [alarm.alarm_id, alarm]));
    state.cut = snapshot.cut;
    showFlood(snapshot.load);
    draw();
    if (state.chosen) refresh();
  });
  stream.addEventListener("alarm", (event) => {
    heard();
    const { alarm } = JSON.parse(event.data);
    if (alarm.shadow) return;
    const known = state.alarms.get(alarm.alarm_id);
    if (known && known.rev >= alarm.rev) return;
    if (alarm.state === "NORM") state.alarms.delete(alarm.alarm_id);
    else state.alarms.set(alarm.alarm_id, alarm);
    draw();
    if (state.chosen === alarm.alarm_id) refresh();
  });
  stream.addEventListener("load", (event) => { heard(); showFlood(JSON.parse(event.data)); });
  stream.addEventListener("alive", heard);
  stream.onerror = () => {
    state.link = "lost";
    showLink();
    if (stream.readyState === EventSource.CLOSED && state.stream === stream) {
      state.stream = null;
      setTimeout(enter, 2000); // refused, not cut: perhaps the session is over
    }
  };
}

function showFlood(load) {
  state.load = load;
  $("flood").hidden = !(load && load.flood);
  if (load && load.flood) $("flood").textContent = t().flood(load.alarms_10_min);
}

function showLink() {
  $("link").className = "link " + state.link;
  $("link-text").textContent = t()[state.link];
  const lost = state.link === "lost" && state.heard > 0 && state.who !== null;
  $("stale").hidden = !lost;
  if (lost) $("stale").textContent = t().stale(clock(new Date(state.heard).toISOString()));
}

setInterval(() => {
  if (state.link === "live" && Date.now() - state.heard > STALE_MS) { state.link = "lost"; showLink(); }
}, 1000);

// ------------------------------------------------------------------ the list

function draw() {
  if (state.drawing) return;
  state.drawing = true;
  requestAnimationFrame(() => { state.drawing = false; drawNow(); });
}

function drawNow() {
  const all = [...state.alarms.values()];
  drawChips(all);
  const needle = state.search.toLowerCase();
  const wanted = all.filter((a) => (state.level === null || a.level === state.level)
    && (!needle || `${a.alarm_id} ${a.title.zh} ${a.title.en}`.toLowerCase().includes(needle)));
  wanted.sort((a, b) => LEVELS.indexOf(a.level) - LEVELS.indexOf(b.level) || STATE_ORDER[a.state] - STATE_ORDER[b.state]
    || Date.parse(b.active_at || 0) - Date.parse(a.active_at || 0) || (a.alarm_id < b.alarm_id ? -1 : 1));
  const shown = wanted.slice(0, SHOWN);
  const keep = new Set(shown.map((a) => a.alarm_id));
  for (const [id, row] of rows) if (!keep.has(id)) { row.element.remove(); rows.delete(id); }
  const body = $("rows");
  shown.forEach((alarm, index) => {
    const element = rowOf(alarm);
    if (body.children[index] !== element) body.insertBefore(element, body.children[index] || null);
  });
  $("empty").hidden = shown.length > 0;
  $("empty-text").textContent = all.length ? t().nothingMatches : t().nothing;
  const hidden = wanted.length - shown.length;
  $("more").hidden = hidden === 0 && !state.cut;
  $("more").textContent = hidden ? t().more(hidden) : t().cut;
}

function drawChips(all) {
  const counts = Object.fromEntries(LEVELS.map((level) => [level, all.filter((a) => a.level === level).length]));
  const chips = [[null, t().all, all.length], ...LEVELS.map((level) => [level, `${SHAPES[level]} ${level}`, counts[level]])];
  const box = $("chips");
  if (box.children.length !== chips.length) {
    box.replaceChildren(...chips.map(([level]) => make("button", {
      type: "button", onclick: () => { state.level = state.level === level ? null : level; draw(); },
    })));
  }
  chips.forEach(([level, name, count], i) => {
    box.children[i].textContent = `${name} ${count}`;
    box.children[i].setAttribute("aria-pressed", String(state.level === level));
  });
}

function rowOf(alarm) {
  let row = rows.get(alarm.alarm_id);
  if (!row) {
    const choose = () => choose_(alarm.alarm_id);
    const element = make("tr", { tabindex: "0", onclick: choose, onkeydown: (e) => {
      if (e.key === "Enter" || e.key === " ") { e.preventDefault(); choose(); }
    } });
    row = { element, rev: -1, since: null };
    rows.set(alarm.alarm_id, row);
  }
  row.element.setAttribute("aria-selected", String(state.chosen === alarm.alarm_id));
  if (row.rev !== alarm.rev) {
    row.rev = alarm.rev;
    row.at = alarm.active_at;
    row.since = make("td", { class: "since", title: moment(alarm.active_at) }, length(alarm.active_at));
    row.element.className = alarm.state;
    row.element.replaceChildren(
      make("td", {}, levelBadge(alarm.level)),
      make("td", {}, stateWord(alarm.state)),
      make("td", {}, make("div", { class: "title" }, title(alarm)), make("div", { class: "sub" }, alarm.asset)),
      make("td", { class: "num" }, value(alarm.value, alarm.unit)),
      row.since,
    );
  }
  return row.element;
}

setInterval(() => { for (const row of rows.values()) if (row.since) row.since.textContent = length(row.at); }, 5000);

const levelBadge = (level) => make("span", { class: `level ${level}` }, make("span", { "aria-hidden": "true" }, SHAPES[level]), level);
const stateWord = (name) => make("span", { class: "state" }, make("span", { class: "mark", "aria-hidden": "true" }, MARKS[name]), t().states[name]);

$("search").addEventListener("input", () => { state.search = $("search").value; draw(); });

// ------------------------------------------------------------------ one alarm

function choose_(id) {
  if (state.chosen !== id) { state.point = null; state.draft = ""; state.detail = null; }
  state.chosen = id;
  draw();
  refresh();
}

async function refresh() {
  const id = state.chosen;
  if (!id) return;
  try {
    const [why, history] = await Promise.all([api(alarmPath(id) + "/why"), api(alarmPath(id) + "/history?limit=20")]);
    if (state.chosen !== id) return;
    if (state.point === null) state.point = pointOf(why);
    let readings = null;
    if (state.point !== null) {
      const from = new Date(Date.now() - 3600e3).toISOString();
      readings = await api(`/readings?asset=${encodeURIComponent(why.alarm.asset)}&point=${encodeURIComponent(state.point)}&from=${from}&step=30s&limit=1000`).catch(() => null);
    }
    if (state.chosen !== id) return;
    state.detail = { why, history: history.items, readings };
    drawDetail();
  } catch (error) {
    if (error.status === 404 && state.chosen === id) { state.chosen = null; state.detail = null; drawDetail(); }
  }
}

// The point that the alarm is about: best a number in the alarm's own unit that the rule names.
function pointOf(why) {
  const rule = JSON.stringify(why.rule || {});
  const worth = (p) => (typeof p.value === "number" ? 4 : 0) + (rule.includes(`"${p.point}"`) ? 2 : 0) + (p.unit && p.unit === why.alarm.unit ? 3 : 0);
  const best = [...why.points].sort((a, b) => worth(b) - worth(a))[0];
  return best ? best.point : null;
}

function fact(name, ...what) {
  return [make("dt", {}, name), make("dd", {}, ...what)];
}

function drawDetail() {
  const box = $("detail");
  const typing = document.activeElement && document.activeElement.id === "ack-comment";
  if (!state.detail) {
    box.replaceChildren(make("p", { class: "empty" }, t().choose));
    return;
  }
  const { why, history, readings } = state.detail;
  const alarm = why.alarm;
  const respond = why.rule && (why.rule[`response_${state.lang}`] || why.rule.response_zh || why.rule.response_en);
  box.replaceChildren(
    make("div", { class: `detail-head ${alarm.state}` }, levelBadge(alarm.level), stateWord(alarm.state)),
    make("h2", {}, title(alarm)),
    make("dl", { class: "facts" },
      ...fact(t().asset, alarm.asset), ...fact(t().rule, alarm.rule),
      ...fact(t().value, value(alarm.value, alarm.unit)),
      ...(alarm.limit === null ? [] : fact(t().limit, value(alarm.limit, alarm.unit))),
      ...fact(t().raised, moment(alarm.active_at)),
      ...(alarm.acked_by ? fact(t().acked, `${alarm.acked_by}, ${moment(alarm.acked_at)}`) : []),
      ...(alarm.comment ? fact(t().comment, alarm.comment) : []),
      ...(alarm.assigned_to ? fact(t().assigned, alarm.assigned_to) : []),
      ...(alarm.parent_alarm_id ? fact(t().parent, alarm.parent_alarm_id) : []),
      ...(alarm.suppressed_by.length ? fact(t().suppressedBy, alarm.suppressed_by.join(", ")) : []),
    ),
    make("h3", {}, t().why),
    make("ul", { class: "reasons" }, ...why.explanation.reasons.map((reason) => make("li", {}, reason[state.lang]))),
    ...(typeof respond === "string" && respond ? [make("div", { class: "respond" }, make("strong", {}, t().respond + " "), respond)] : []),
    ...(state.who.role === "viewer" ? [] : !alarm.acked ? [ackForm(alarm)] : resettable(alarm) ? [resetForm(alarm)] : []),
    make("h3", {}, t().points), pointsTable(why.points),
    ...(state.point === null ? [] : [make("h3", {}, `${t().readings} · ${state.point}`), chart(readings, alarm)]),
    make("h3", {}, t().history),
    make("ol", { class: "history" }, ...history.map((step) => make("li", {},
      make("div", {}, `${moment(step.at)}  ${t().causes[step.cause] || step.cause}`),
      make("div", { class: "sub" }, [step.from !== step.to && `${t().states[step.from]} → ${t().states[step.to]}`, step.by && `${t().by} ${step.by}`, step.why, step.late && t().late].filter(Boolean).join(" · ")),
    ))),
  );
  if (typing && $("ack-comment")) {
    $("ack-comment").focus();
    $("ack-comment").setSelectionRange(state.draft.length, state.draft.length);
  }
}

const resettable = (alarm) => alarm.latched && alarm.acked && alarm.condition === "NORMAL";

function resetForm(alarm) {
  const button = make("button", { type: "submit", class: "primary" }, t().reset);
  return actionForm(alarm, "reset", button, [make("p", { class: "quiet" }, t().resetHint)], () => ({ rev: alarm.rev }));
}

function ackForm(alarm) {
  const comment = make("textarea", { id: "ack-comment", maxlength: "1000", placeholder: t().ackHint, "aria-label": t().ackHint,
    oninput: () => { state.draft = comment.value; } });
  comment.value = state.draft;
  const button = make("button", { type: "submit", class: "primary" }, t().acknowledge);
  return actionForm(alarm, "acknowledge", button, [comment], () => ({ rev: alarm.rev, comment: comment.value.trim() || null }));
}

function actionForm(alarm, action, button, parts, body) {
  const error = make("p", { class: "error", role: "alert" });
  return make("form", { class: "ack", onsubmit: async (event) => {
    event.preventDefault();
    button.disabled = true;
    error.textContent = "";
    try {
      await api(`${alarmPath(alarm.alarm_id)}/${action}`, { method: "POST", body: body() });
      state.draft = "";
      await refresh();
    } catch (problem) {
      button.disabled = false;
      if (problem.status === 409) await refresh();
      const shown = $("detail").querySelector("form.ack .error") || error;
      shown.textContent = problem.message;
    }
  } }, ...parts, button, error);
}

function pointsTable(points) {
  if (!points.length) return make("p", { class: "quiet" }, t().noReadings);
  return make("table", { class: "points" }, make("tbody", {}, ...points.map((p) => make("tr", {
    tabindex: "0", "aria-selected": String(p.point === state.point),
    onclick: () => { state.point = p.point; refresh(); },
    onkeydown: (e) => { if (e.key === "Enter") { state.point = p.point; refresh(); } },
  },
  make("td", {}, p.point),
  make("td", { class: "num" }, value(p.value, p.unit)),
  make("td", { class: p.quality === "good" ? "quiet" : "bad-quality", title: p.reason || "" }, t().qualities[p.quality]),
  make("td", { class: "quiet since" }, clock(p.source_time)),
  ))));
}

// Words (open, closed) cannot be drawn: the newest changes, newest first.
function lastWords(readings) {
  const items = ((readings && readings.items) || []).filter((r) => r.last !== null);
  const changes = items.filter((r, i) => i === 0 || r.last !== items[i - 1].last).slice(-8).reverse();
  if (!changes.length) return make("p", { class: "quiet" }, t().noReadings);
  return make("ol", { class: "history" }, ...changes.map((r) => make("li", {}, `${clock(r.time)}  ${value(r.last, readings.unit)}`)));
}

function chart(readings, alarm) {
  const samples = ((readings && readings.items) || []).map((r) => [Date.parse(r.time), typeof r.mean === "number" ? r.mean : typeof r.last === "number" ? r.last : NaN])
    .filter(([, v]) => Number.isFinite(v));
  if (samples.length < 2) return lastWords(readings);
  const W = 400, H = 140, left = 46, bottom = 18, top = 10, right = 8;
  const limit = readings.unit === alarm.unit && typeof alarm.limit === "number" ? alarm.limit : null;
  const values = samples.map(([, v]) => v).concat(limit === null ? [] : [limit]);
  let low = Math.min(...values), high = Math.max(...values);
  if (low === high) { low -= 1; high += 1; }
  const [t0, t1] = [samples[0][0], samples[samples.length - 1][0]];
  const x = (time) => left + ((time - t0) / Math.max(1, t1 - t0)) * (W - left - right);
  const y = (v) => top + (1 - (v - low) / (high - low)) * (H - top - bottom);
  const svg = (tag, attributes, text) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, v] of Object.entries(attributes)) element.setAttribute(name, v);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const picture = svg("svg", { class: "chart", viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${state.point}: ${value(low)} … ${value(high)}` });
  picture.append(
    svg("line", { x1: left, x2: W - right, y1: y(low), y2: y(low) }), svg("line", { x1: left, x2: W - right, y1: y(high), y2: y(high) }),
    svg("text", { x: left - 5, y: y(high) + 4, "text-anchor": "end" }, value(high)), svg("text", { x: left - 5, y: y(low) + 4, "text-anchor": "end" }, value(low)),
    svg("text", { x: left, y: H - 4 }, clock(new Date(t0).toISOString())),
    svg("text", { x: W - right, y: H - 4, "text-anchor": "end" }, clock(new Date(t1).toISOString())),
    ...(limit === null ? [] : [svg("line", { class: "limit", x1: left, x2: W - right, y1: y(limit), y2: y(limit) })]),
    svg("path", { d: "M" + samples.map(([time, v]) => `${x(time).toFixed(1)} ${y(v).toFixed(1)}`).join("L") }),
  );
  return picture;
}

setInterval(() => { if (state.chosen && state.link === "live" && !document.hidden) refresh(); }, 5000);

// ------------------------------------------------------------------ health line

async function health() {
  const box = $("health");
  try {
    const report = await api("/health");
    const rate = (name) => Math.round((report.rates && report.rates[name]) || 0);
    box.replaceChildren(
      make("span", {}, t().rate(rate("frames"), rate("readings"))),
      make("span", { class: report.status === "ok" ? "" : "bad" }, report.status === "ok" ? t().healthy : t().failing(report.reasons.join("; "))),
    );
  } catch { box.replaceChildren(); }
}
setInterval(() => { if (!document.hidden) health(); }, HEALTH_MS);

translate();
drawDetail();
health();
enter();
