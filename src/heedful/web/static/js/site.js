// What every page knows of its server and of the person it was made for.
const { root: below = "", person: who = "" } = document.documentElement.dataset;

/** Where this server's addresses begin: "" or the path under which a proxy serves it. */
export const root = below;

/** The number of the person of this page, "" if nobody is signed in. */
export const person = who;

/** Of a request to the API. The server refuses it (401) if another account has signed in on this browser meanwhile. */
export const headers = (accept = "application/json") => ({
  Accept: accept, "Content-Type": "application/json", ...(person && { "Heedful-Person": person }),
});

/** The sign-in page, which leads back here. */
export const signIn = () => `${root}/login?next=${encodeURIComponent(location.pathname)}`;
