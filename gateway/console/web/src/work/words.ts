// The texts about work join the dictionaries when a page wants them: the alarm list is there without.
import { i18n } from "../i18n";
import en from "./en";
import zh from "./zh-CN";

i18n.global.mergeLocaleMessage("zh-CN", { work: zh } as never);
i18n.global.mergeLocaleMessage("en", { work: en } as never);
