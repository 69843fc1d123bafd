/**
 * Work that runs in the background: no caller waits for it. If it fails unexpectedly, its owner, the log, is
 * called, once there is a log. Without an owner such a failure would have no name.
 */
type Owner = (what: string, error: unknown) => void;

let owner: Owner | undefined;

/** Sets the owner from now on. */
export function ownBackground(hears: Owner): void {
  owner = hears;
}

/** `what` names the work, in case it fails: `bringing up overlay0`. Without an owner a failure is an
 * unhandled rejection. */
export function inBackground(what: string, work: Promise<unknown>): void {
  work.catch((error: unknown) => {
    if (owner === undefined) throw error;
    owner(what, error);
  });
}
