// The console of citywatch: where it begins.
import { createApp } from "vue";
import "element-plus/theme-chalk/base.css";
import "element-plus/theme-chalk/dark/css-vars.css";

import App from "./App.vue";
import { i18n } from "./i18n";
import { router } from "./router";
import "./style.css";
import { cameFrom } from "./ui/comeBack";
import "./ui/element.css";
import "./ui/theme";

const crew = cameFrom();
if (crew !== null) location.replace(crew + location.search);
else createApp(App).use(i18n).use(router).mount("#app");
