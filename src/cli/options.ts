/** Options that several commands have. */

/** Commands that make something have it. */
export const temporaryCreation = {
  name: 'temporary',
  short: 't',
  about: 'until varpd stops; otherwise it comes back',
} as const;

/** Commands that delete something have it. */
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
