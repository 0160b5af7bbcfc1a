// The texts of the crew page join the dictionaries.
import { i18n } from "../i18n";
import en from "./en";
import zh from "./zh-CN";

i18n.global.mergeLocaleMessage("zh-CN", { crew: zh } as never);
i18n.global.mergeLocaleMessage("en", { crew: en } as never);
