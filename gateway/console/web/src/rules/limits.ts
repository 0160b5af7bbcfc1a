// The numeric limits of the rules that watch an asset, for drawing over its curves.
import { ref, watch } from "vue";

import { api, ask } from "../api/client";
import type { Level } from "../api/types";

export interface Limit {
  readonly point: string;
  readonly value: number;
  readonly level: Level;
  readonly rule: string;
}

/** The limits of the asset that ``asset()`` names, as the rules in force have them; empty until they are known. */
export function useRuleLimits(asset: () => string) {
  const limits = ref<Limit[]>([]);
  watch(
    asset,
    async (id) => {
      try {
        const found = await ask(api.GET("/api/v1/assets/{asset_id}/limits", { params: { path: { asset_id: id } } }));
        if (asset() !== id) return;
        limits.value = found.flatMap((limit) =>
          limit.value === null ? [] : [{ point: limit.point, value: limit.value, level: limit.level, rule: limit.rule }],
        );
      } catch {
        limits.value = []; // curves without limits are still curves
      }
    },
    { immediate: true },
  );
  return limits;
}
