/** Options that several commands have. */

/** For commands that make something. */
export const temporaryCreation = {
  name: 'temporary',
  short: 't',
  about: 'until varpd stops; otherwise it comes back',
} as const;

/** For commands that delete something. */
export const temporaryDeletion = {
  name: 'temporary',
  short: 't',
  about: 'until up-overlay, or until varpd starts again',
} as const;

/** Link properties by name. */
export const chosenProperties = {
  name: 'prop',
  short: 'p',
  value: 'prop[,...]',
  repeatable: true,
  about: 'which; otherwise all',
} as const;
