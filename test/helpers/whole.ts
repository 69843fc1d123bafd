// How often things are tried that are tried many times: a quarter of it in `npm test`, all of it in `npm run test:full`.
const isWhole = process.env['VARPD_TEST_WHOLE'] !== undefined;

/** Of values in order that are all alike: every n-th in `npm test`. */
export const every = (nth: number): number => (isWhole ? 1 : nth);

/** Combinations of values: in `npm test` a few in which each value stands at least once. */
export const usual = <Row>(rows: readonly Row[], isUsual: (row: Row) => boolean): readonly Row[] =>
  isWhole ? rows : rows.filter(isUsual);

/** Whether something is tried: in `npm test`, only what is usual. */
export const isTried = (isUsual: boolean): boolean => isWhole || isUsual;

/** How much `npm run bench -- --verify` carries over each connection. */
const verifiedBytes = process.env['VARPD_TEST_BYTES'];
export const isThorough = verifiedBytes !== undefined;
export const bytesOr = (usual: number): number => Number(verifiedBytes ?? usual);

export const part = (count: number): number => (isWhole ? count : Math.ceil(count / 4));
