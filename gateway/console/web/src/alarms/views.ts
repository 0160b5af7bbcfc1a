// Saved views: the address bar of a page under a name, one's own or everybody's.
import { onMounted, ref } from "vue";
import { useRoute, useRouter } from "vue-router";

import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { done, tell } from "../ui/problem";
import { t } from "../i18n";

export type SavedView = components["schemas"]["SavedViewOut"];

export function useSavedViews(page: string) {
  const all = ref<SavedView[]>([]);
  const route = useRoute();
  const router = useRouter();

  async function load(): Promise<void> {
    try {
      all.value = await ask(api.GET("/api/v1/views", { params: { query: { page } } }));
    } catch (problem) {
      tell(problem);
    }
  }

  async function save(name: string, shared: boolean): Promise<void> {
    const query = new URLSearchParams(route.query as Record<string, string>).toString();
    try {
      await ask(api.PUT("/api/v1/views/{page}/{name}", { params: { path: { page, name } }, body: { query, shared } }));
      done(t("filter.saved"));
      await load();
    } catch (problem) {
      tell(problem);
    }
  }

  async function remove(view: SavedView): Promise<void> {
    try {
      const params = { path: { page, name: view.name }, query: { shared: view.owner === "" } };
      await ask(api.DELETE("/api/v1/views/{page}/{name}", { params }));
      await load();
    } catch (problem) {
      tell(problem);
    }
  }

  function open(query: string): void {
    void router.replace({ query: Object.fromEntries(new URLSearchParams(query)) });
  }

  onMounted(load);
  return { all, save, remove, open };
}
