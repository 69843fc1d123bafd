/** The shapes of `daemon.status` (methods.ts). */

/** How plugin processes are confined. */
export interface PluginConfinement {
  /** Version of the kernel's Landlock (its ABI) that confines them; 0 = none does. */
  readonly landlock: number;
  /** The part of it that is missing, with the reason; null = nothing is. */
  readonly lack: string | null;
}

export interface DaemonStatus {
  readonly version: string;
  readonly pid: number;
  readonly startedAt: string;
  /** Since `startedAt`, by a clock that nobody sets. */
  readonly uptimeSeconds: number;
  /** The user that varpd runs as: a name, or a number without one. */
  readonly user: string;
  /** The user that plugin processes run as; null or absent = there was none since the start. */
  readonly pluginUser?: string | null;
  /** How they are confined; null or absent as above. */
  readonly pluginConfinement?: PluginConfinement | null;
  /** A sentence: what the service lacks, so that plugins run as the user of varpd; null or absent = nothing. */
  readonly pluginLack?: string | null;
  /** The configuration file; null = there is none, and every key has its default. */
  readonly configuration: string | null;
  /** Whether everything stored has been tried since the start, so that the counts are final. */
  readonly isSettled: boolean;
  /** Overlays that run. */
  readonly overlays: number;
  readonly vnics: number;
  /** Kernel features probed at start. */
  readonly features: Readonly<Record<string, boolean>>;
}
