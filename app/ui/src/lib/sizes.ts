// Sizes as people write them: 512M, 4G, 1.5 GiB; units are powers of 1,024, as on the command line.
const UNITS = ['', 'K', 'M', 'G', 'T'];

/** Bytes; undefined: it is no size. Nothing at all is 0, and -1 is itself: what is free, of an option that knows it. */
export function parseSize(text: string): number | undefined {
  const found = /^(\d+(?:[.,]\d+)?)\s*([kmgt]?)(?:i?b)?$/i.exec(text.trim());
  if (!text.trim()) return 0;
  if (text.trim() === '-1') return -1;
  if (!found) return undefined;
  const [, number = '', unit = ''] = found;
  const bytes = Math.round(Number(number.replace(',', '.')) * 1024 ** UNITS.indexOf(unit.toUpperCase()));
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** The shortest text that parseSize takes back to the same number. */
export function writeSize(bytes: number): string {
  let unit = UNITS.length - 1;
  while (unit > 0 && bytes % 1024 ** unit !== 0) unit--;
  return bytes === 0 ? '0' : `${bytes / 1024 ** unit}${UNITS[unit] ?? ''}`;
}
