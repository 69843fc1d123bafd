/** Another network namespace than that of the process: work there, and links that are moved there. */
import { closeSync, fstatSync, openSync, statSync } from 'node:fs';
import { addon, checked } from './addon.js';
import * as kernel from './kernel-numbers.js';
import { ask, numberAttribute, textAttribute } from './netlink-message.js';
import { ifinfo, named } from './rtnetlink.js';

const OWN = '/proc/thread-self/ns/net';

/** Whether the descriptor is one of the network namespace of this thread. Throws the system's error. */
export function isOwnNetwork(namespace: number): boolean {
  const [its, own] = [fstatSync(namespace), statSync(OWN)];
  return its.ino === own.ino && its.dev === own.dev;
}

/**
 * Runs `work` in the network namespace of a descriptor. Only this thread is there, and only until `work` returns, so
 * `work` must do everything at once: a promise goes on in the process's own namespace. Needs CAP_SYS_ADMIN. Throws the
 * kernel's error; EINVAL when the descriptor is not one of a network namespace.
 */
export function inNetwork<T>(namespace: number, work: () => T): T {
  const own = openSync(OWN, 'r');
  try {
    checked(addon.enterNetwork(namespace), 'setns', 'network namespace');
    try {
      return work();
    } finally {
      checked(addon.enterNetwork(own), 'setns', OWN);
    }
  } finally {
    closeSync(own);
  }
}

/**
 * Moves a link into the network namespace of a descriptor, under a name that is free there. It is down there, without
 * addresses. Needs CAP_NET_ADMIN in both namespaces. Throws the kernel's error: EEXIST when a link there has the name.
 */
export function moveLink(index: number, namespace: number, name: string): void {
  const parts = [
    ifinfo(index, 0, 0),
    numberAttribute(kernel.IFLA_NET_NS_FD, namespace),
    textAttribute(kernel.IFLA_IFNAME, name),
  ];
  named(name, 'RTM_NEWLINK', () => ask(kernel.RTM_NEWLINK, kernel.NLM_F_ACK, parts, name));
}
