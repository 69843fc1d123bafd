/** A lookup plugin for the bench: it knows the answer to every question. */
import { definePlugin } from '../../../../src/plugin/index.js';

export default definePlugin({
  apiVersion: 2,
  name: 'answers',
  mode: 'dynamic',
  properties: [],
  create: () => ({
    start: () => Promise.resolve(),
    stop: () => Promise.resolve(),
    resolve: () => ({ kind: 'target', to: { ip: '192.0.2.1', port: 4789 }, ttlMs: 1000 }),
  }),
});
