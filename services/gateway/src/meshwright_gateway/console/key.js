// The user's API key: in this tab only, gone with it.

const PLACE = "meshwright-api-key";
let onForgotten = () => {};

/** Return the key; empty when there is none. */
export function currentKey() {
  return sessionStorage.getItem(PLACE) ?? "";
}

/** Use this key from now on. */
export function useKey(key) {
  sessionStorage.setItem(PLACE, key);
}

/** Forget the key, and ask for another one; `why` is shown. */
export function forgetKey(why) {
  sessionStorage.removeItem(PLACE);
  onForgotten(why);
}

/** Call `handler` with the reason whenever the key is forgotten. */
export function whenForgotten(handler) {
  onForgotten = handler;
}
