// The time, once a second, for all that shows an age.
import { ref } from "vue";

/** Milliseconds since 1970, a second old at most. */
export const now = ref(Date.now());

setInterval(() => {
  now.value = Date.now();
}, 1000);
