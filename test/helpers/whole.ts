// How often things are tried that are tried many times: a quarter of it in `npm test`, all of it in test/full/whole.test.ts.
const isWhole = process.env['VARPD_TEST_WHOLE'] !== undefined;

export const part = (count: number): number => (isWhole ? count : Math.ceil(count / 4));
