// The house's own sign-in leads back to the console; who came from the crew page goes on to there.
const STORED = "citywatch.back";

/** About to leave for the house's sign-in. */
export function comeBack(): void {
  try {
    if (location.pathname.startsWith("/crew")) sessionStorage.setItem(STORED, location.pathname);
  } catch {
    // a browser without storage stays in the console
  }
}

/** Where to go on to instead of here; once. */
export function cameFrom(): string | null {
  try {
    const found = sessionStorage.getItem(STORED);
    sessionStorage.removeItem(STORED);
    return found?.startsWith("/crew") ? found : null;
  } catch {
    return null;
  }
}
