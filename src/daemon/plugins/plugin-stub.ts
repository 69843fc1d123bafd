/**
 * A plugin in a process of its own, as the daemon has it: a LookupPlugin with instances that pass each call on. It knows
 * nothing of overlays; PluginInstance checks and counts its answers as those of any plugin.
 */
import type { Host, Instance, LookupPlugin } from '../../plugin/contract.js';
import type { Properties, PropertySpec } from '../../plugin/properties.js';
import type { HostFacts, InstanceId } from '../../plugin-process/messages.js';
import { STOP_DEADLINE_MS } from './deadline.js';
import type { PluginProcess } from './plugin-process.js';
import type { Gone, PluginRunner } from './plugin-runner.js';

/** Methods that an instance may lack; their arguments without the signal. */
const FORWARDED = [
  'change',
  'reload',
  'defaultDestination',
  'resolve',
  'neighbor',
  'dhcpServer',
  'placeOf',
] as const satisfies readonly (keyof Instance)[];

type Method = (...args: unknown[]) => unknown;

export class ProcessPlugin implements LookupPlugin {
  readonly apiVersion = 2;
  readonly name: string;
  readonly mode: 'point' | 'dynamic';
  readonly properties: readonly PropertySpec[];

  /** `facts`: the plugin as its process has described it, checked. */
  constructor(
    readonly runner: PluginRunner,
    facts: Pick<LookupPlugin, 'name' | 'mode' | 'properties' | 'refuse'>,
  ) {
    this.name = facts.name;
    this.mode = facts.mode;
    this.properties = facts.properties;
    if (facts.refuse !== undefined)
      this.refuse = async (properties) => (await runner.refuse(properties)) as string | undefined;
  }

  /** Undefined where the plugin has no such function. */
  readonly refuse?: (properties: Properties) => Promise<string | undefined>;

  create(host: Host): Instance {
    return new ProcessInstance(this.runner, this.mode, host);
  }
}

class ProcessInstance implements Instance {
  readonly #runner: PluginRunner;
  readonly #mode: LookupPlugin['mode'];
  readonly #host: Host;
  #process: PluginProcess | undefined;
  #id: InstanceId = 0;

  constructor(runner: PluginRunner, mode: LookupPlugin['mode'], host: Host) {
    this.#runner = runner;
    this.#mode = mode;
    this.#host = host;
    // The methods of the plugin's own instance are known after its start.
    this.#forward(mode === 'point' ? 'defaultDestination' : 'resolve');
  }

  async start(properties: Properties, signal: AbortSignal): Promise<void> {
    const { process, id } = await this.#runner.add(this.#host, signal);
    this.#process = process;
    this.#id = id;
    const { overlay, vnetid, listen } = this.#host;
    const facts: HostFacts = { overlay, vnetid, listen };
    const given = await process.call(id, 'start', [facts, properties], signal);
    const methods = new Set(Array.isArray(given) ? (given as readonly unknown[]) : []);
    if (this.#mode === 'point' && !methods.has('defaultDestination'))
      throw new Error('its instance has no defaultDestination');
    for (const name of FORWARDED)
      if (methods.has(name)) this.#forward(name);
      else Reflect.deleteProperty(this, name);
    if (methods.has('ports'))
      Object.assign(this, {
        ports: (macs: readonly number[]) => {
          this.#process?.tell(this.#id, 'ports', [macs]);
        },
      });
  }

  async stop(): Promise<void> {
    const process = this.#process;
    this.#process = undefined;
    if (process === undefined) return;
    try {
      await process.call(this.#id, 'stop', [], AbortSignal.timeout(STOP_DEADLINE_MS));
    } finally {
      this.#runner.remove(process, this.#id);
    }
  }

  #forward(name: (typeof FORWARDED)[number]): void {
    const method: Method = (...args) => {
      const signal = args.at(-1);
      const isSignal = signal instanceof AbortSignal;
      const process = this.#process;
      if (process === undefined) throw new Error('its process has ended');
      return process.call(this.#id, name, isSignal ? args.slice(0, -1) : args, isSignal ? signal : undefined);
    };
    Object.assign(this, { [name]: method });
  }
}

/** Calls `gone` when the process of the plugin ends. Returns a function that ends that; a plugin inside varpd has no
 * process. */
export function whenGone(plugin: LookupPlugin, gone: Gone): () => void {
  if (!(plugin instanceof ProcessPlugin)) return () => undefined;
  const { runner } = plugin;
  runner.gone.add(gone);
  return () => {
    runner.gone.delete(gone);
  };
}

/** Time until the process of the plugin may be started again. */
export function pauseOf(plugin: LookupPlugin | undefined): number {
  return plugin instanceof ProcessPlugin ? plugin.runner.pauseMs : 0;
}
