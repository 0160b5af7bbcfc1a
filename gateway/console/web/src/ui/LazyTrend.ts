// The trend chart, loaded with its library when the first one is wanted: the alarm list must be there before.
import { defineAsyncComponent } from "vue";

export default defineAsyncComponent(() => import("./TrendChart.vue"));
