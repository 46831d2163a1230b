// Where this server's addresses begin: "" or the path under which a proxy serves it.
export const root = document.documentElement.dataset.root;

/** The sign-in page, which leads back here. */
export const signIn = () => `${root}/login?next=${encodeURIComponent(location.pathname)}`;
