/**
 * The bounds of a handover: the part of the target tables that the next varpd, and the stand-in before it,
 * use without asking the plugin. They are the same for the snapshot (daemon/state/snapshot.ts) and for the
 * stand-in (datapath/userland/main/handover.ts).
 */

/** Targets of one overlay, the latest used. The end of a process waits until they are saved. The plugin is
 * asked for the others as usual. */
export const MAX_KNOWN_TARGETS = 16_384;

/** A restart is over by then, even on a busy host, and a mapping has hardly changed. */
export const MAX_AGE_MS = 60_000;
