/** The properties of the http plugin. README.md has them as a table. */
import type { Properties } from '../../src/plugin/index.js';

const MAX_MS = 2 ** 31 - 1;

export const specs = [
  { name: 'http/url', type: 'string', required: true, kind: 'url', maxBytes: 2048, changeable: true },
  {
    name: 'http/mode',
    type: 'choice',
    required: false,
    default: 'watch',
    choices: ['lookup', 'watch', 'snapshot'],
  },
  { name: 'http/ca', type: 'string', required: false, kind: 'path', changeable: true },
  { name: 'http/token', type: 'string', required: false, kind: 'secret', changeable: true },
  { name: 'http/cert', type: 'string', required: false, kind: 'path', changeable: true },
  { name: 'http/key', type: 'string', required: false, kind: 'secret', changeable: true },
  {
    name: 'http/ttl_ms',
    type: 'uint',
    required: false,
    default: '30000',
    min: 1000,
    max: MAX_MS,
    changeable: true,
  },
  { name: 'http/stale_ms', type: 'uint', required: false, min: 0, max: MAX_MS, changeable: true },
  {
    name: 'http/timeout_ms',
    type: 'uint',
    required: false,
    default: '800',
    min: 10,
    max: 60_000,
    changeable: true,
  },
  {
    name: 'http/silence_ms',
    type: 'uint',
    required: false,
    default: '45000',
    min: 1000,
    max: 3_600_000,
    changeable: true,
  },
  {
    name: 'http/flood',
    type: 'choice',
    required: false,
    default: 'off',
    choices: ['on', 'off'],
    changeable: true,
  },
  {
    name: 'http/protect',
    type: 'choice',
    required: false,
    default: 'off',
    choices: ['on', 'off'],
    changeable: true,
  },
] as const;

export type HttpProperties = Properties<typeof specs>;
