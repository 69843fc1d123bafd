/** Numbers for readers. */

const UNITS = ['', 'k', 'M', 'G', 'T'];

/** `1.2 Mbit/s`; `--` while it is not known. */
export function rateText(value: number | null, unit: string): string {
  if (value === null) return '--';
  let size = value;
  let step = 0;
  while (size >= 1000 && step < UNITS.length - 1) {
    size /= 1000;
    step++;
  }
  const digits = size === 0 || size >= 100 || (step === 0 && Number.isInteger(size)) ? 0 : 1;
  return `${size.toFixed(digits)} ${UNITS[step]}${unit}/s`;
}

export const bitsText = (value: number | null): string => rateText(value, 'bit');
export const framesText = (value: number | null): string =>
  rateText(value, 'frames').replace(/ (\w)frames/, '$1 frames');

export function ageText(seconds: number | null): string {
  if (seconds === null) return '--';
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86_400)} d`;
}
