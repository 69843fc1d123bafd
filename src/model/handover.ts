/**
 * The bounds of a handover: how much of the target tables the next varpd, and the stand-in before it, go on with unasked. They
 * are the same for the snapshot (daemon/state/snapshot.ts) and for the stand-in (datapath/userland/main/handover.ts).
 */

/** Targets of one overlay, those used last: the end of a daemon waits for them. The others are asked for, as ever. */
export const MAX_KNOWN_TARGETS = 16_384;

/** A restart is over by then, also of a host that is busy; a mapping has hardly changed. */
export const MAX_AGE_MS = 60_000;
