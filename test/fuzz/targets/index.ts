// Every target in TypeScript. To be imported after engine.ts has made its counters.
import type { Target } from '../engine.js';
import { target as codecs } from './codecs.js';
import { target as datapath } from './datapath.js';
import { target as paths } from './paths.js';
import { target as proxies } from './proxies.js';
import { config, control, mapping, properties, state } from './texts.js';

export const targets: readonly Target[] = [
  codecs,
  datapath,
  paths,
  proxies,
  mapping,
  control,
  state,
  config,
  properties,
];
