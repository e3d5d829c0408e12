// What a model's file tells of itself, for people: mlxr_model_describe's JSON.
import { formatBytes } from './format';

export type Description = Readonly<Record<string, unknown>>;

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '');

function metadataOf(description: Description | undefined): Description {
  const found = description?.metadata;
  return found !== null && typeof found === 'object' ? (found as Description) : {};
}

export const templateOf = (description?: Description): string => textOf(metadataOf(description)['tokenizer.chat_template']);

/** Its name, and where it is told. */
export function licenceOf(description?: Description): string {
  const metadata = metadataOf(description);
  return ['general.license', 'general.license.name', 'general.license.link'].map((key) => textOf(metadata[key])).filter(Boolean).join('\n');
}

/** "Q4_1: 210, 84.2 MiB", most bytes first. */
export function typesOf(description?: Description): string {
  const tensors = Array.isArray(description?.tensors) ? (description.tensors as { type?: string; bytes?: number }[]) : [];
  const sums = new Map<string, { n: number; bytes: number }>();
  for (const { type = '?', bytes = 0 } of tensors) {
    const sum = sums.get(type) ?? { n: 0, bytes: 0 };
    sums.set(type, { n: sum.n + 1, bytes: sum.bytes + bytes });
  }
  return [...sums]
    .sort(([, a], [, b]) => b.bytes - a.bytes)
    .map(([type, { n, bytes }]) => `${type}: ${n}, ${formatBytes(bytes)}`)
    .join('\n');
}
