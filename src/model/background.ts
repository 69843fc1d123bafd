/**
 * Work that nobody waits for. It has an owner all the same, who hears what failed unexpectedly: the log, once there is one.
 * Without it such a failure would be one that nobody can name.
 */
type Owner = (what: string, error: unknown) => void;

let owner: Owner | undefined;

/** From now on. */
export function ownBackground(hears: Owner): void {
  owner = hears;
}

/** `what` is what fails, should it fail: `bringing up overlay0`. Without an owner it is an unhandled rejection. */
export function inBackground(what: string, work: Promise<unknown>): void {
  work.catch((error: unknown) => {
    if (owner === undefined) throw error;
    owner(what, error);
  });
}
