// varpd-cni as an engine for containers executes it: by the environment and standard input, with the plugins of Debian.
import path from 'node:path';

import type { Daemon } from './daemon.js';
import { fromRoot } from './need.js';
import type { Bed, Namespace } from './netns.js';
import type { Result } from './process.js';

export const CNI_MAIN = fromRoot('dist/src/cni/main.js');
/** Where the package containernetworking-plugins has them. */
export const PLUGINS = '/usr/lib/cni';
export const HOST_LOCAL = path.join(PLUGINS, 'host-local');

export interface Answer extends Result {
  /** Standard output; undefined when there is none. */
  readonly json: Readonly<Record<string, unknown>> | undefined;
}

export interface Attached {
  readonly containerId?: string;
  /** The container's namespace, or a path. */
  readonly netns?: Namespace | string;
  readonly ifname?: string;
  readonly args?: string;
  readonly env?: Readonly<Record<string, string>>;
}

export const pathOf = (netns: Namespace | string): string =>
  typeof netns === 'string' ? netns : `/run/netns/${netns.name}`;

/** A configuration for an overlay of this varpd; addresses out of `subnet`, if it is given. */
export function configuration(
  daemon: Daemon,
  bed: Bed,
  more: Readonly<Record<string, unknown>> = {},
  subnet?: string,
): Readonly<Record<string, unknown>> {
  const ranges = [[{ subnet }]];
  const ipam = { type: 'host-local', dataDir: bed.directory(), ranges };
  return {
    cniVersion: '1.0.0',
    name: 'net0',
    type: 'varpd-cni',
    overlay: 'overlay0',
    socket: daemon.socket,
    ...(subnet !== undefined && { ipam }),
    ...more,
  };
}

/** Executes varpd-cni on the host of a varpd. */
export async function cni(
  host: Namespace,
  command: string,
  config: unknown,
  { containerId = 'one', netns, ifname = 'eth0', args, env }: Attached = {},
): Promise<Answer> {
  const given = {
    CNI_COMMAND: command,
    CNI_CONTAINERID: containerId,
    CNI_IFNAME: ifname,
    CNI_PATH: PLUGINS,
    ...(netns !== undefined && { CNI_NETNS: pathOf(netns) }),
    ...(args !== undefined && { CNI_ARGS: args }),
    ...env,
  };
  const input = typeof config === 'string' ? config : JSON.stringify(config);
  const result = await host.run([process.execPath, CNI_MAIN], { env: given, input });
  const json = result.stdout === '' ? undefined : (JSON.parse(result.stdout) as Answer['json']);
  return { ...result, json };
}
