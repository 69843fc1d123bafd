/** Moves the interface of a new VNIC into a network namespace, with the rights of the user of dladm alone. */
import { closeSync, openSync } from 'node:fs';
import { inNetwork, isOwnNetwork, linkInfo, moveLink, setLink } from '../dgram-extra/index.js';
import { errorCode, errorText } from '../model/errors.js';
import { CommandError } from './command.js';

/** Where ip-netns(8) has them by name. */
const NAMED = '/run/netns';

export interface NetworkNamespace {
  /** Moves a link there, under the same name, and brings it up. Throws a CommandError; then it may be in either. */
  moveIn(name: string): void;
  close(): void;
}

/** Opens a namespace by its name, or by a path. Throws a CommandError. */
export function openNamespace(netns: string): NetworkNamespace {
  const path = netns.includes('/') ? netns : `${NAMED}/${netns}`;
  const descriptor = open(path);
  const close = (): void => {
    closeSync(descriptor);
  };
  if (isOwnNetwork(descriptor)) {
    close();
    throw new CommandError(
      `${path} is the network namespace of dladm, where VNICs are without --netns`,
      [],
      'INVALID',
    );
  }
  const moveIn = (name: string): void => {
    const link = linkInfo(name);
    if (link === undefined)
      throw new CommandError(`${name} is not in the network namespace of dladm: run dladm in that of varpd`);
    try {
      moveLink(link.index, descriptor, name);
      inNetwork(descriptor, () => {
        setLink(name, { up: true });
      });
    } catch (error) {
      const reason = errorCode(error) === 'EPERM' ? 'DENIED' : 'FAILED';
      throw new CommandError(`cannot move ${name} into ${path}: ${errorText(error)}`, [], reason);
    }
  };
  return { moveIn, close };
}

function open(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (error) {
    if (errorCode(error) === 'ENOENT')
      throw new CommandError(`the network namespace ${path} is not there`, [], 'NOT_FOUND');
    throw new CommandError(`cannot open the network namespace ${path}: ${errorText(error)}`);
  }
}
