/**
 * varpd/plugin-test: the kit for authors of lookup plugins.
 *
 *   import { conformance, harness } from 'varpd/plugin-test';
 *
 * It needs no root, no daemon and no test framework: everything is a function that returns or throws. docs/plugins.md shows how
 * to use it.
 */
export type { CheckName } from './checks.js';
export { type Check, type CheckResult, checks, conformance, type Report } from './conformance.js';
export { arpRequest, dataFrame, dhcpDiscover, GUEST, type Mac, neighborIn, solicitation } from './frames.js';
export { Harness, harness } from './harness.js';
export type {
  AnyPlugin,
  Backend,
  ConformanceOptions,
  HarnessOptions,
  Sent,
  TargetRow,
  TypedValues,
} from './options.js';
export type { Finding } from './watched.js';
