// The crew page: for a phone in the field, with or without a network.
import { createApp } from "vue";

import { i18n } from "../i18n";
import "../style.css";
import "../ui/theme";
import CrewApp from "./CrewApp.vue";
import "./crew.css";
import { installed } from "./offline";
import { router } from "./router";
import "./words";

createApp(CrewApp).use(i18n).use(router).mount("#app");
installed();
