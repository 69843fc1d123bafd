/** The kinds of parameters that a method of the control protocol can have, as plain data. */

export type Kind =
  | { readonly is: 'text'; readonly max?: number }
  | { readonly is: 'flag' }
  | { readonly is: 'whole'; readonly min?: number; readonly max?: number }
  | { readonly is: 'list'; readonly of: Kind }
  | { readonly is: 'pair'; readonly first: Kind; readonly second: Kind };

/** An optional parameter is left out; it is never null. */
export type Param = Kind & { readonly isOptional?: true };
