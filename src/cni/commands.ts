/**
 * The commands of the CNI specification 1.1.0, section 2.
 *
 * ADD asks varpd for a VNIC, moves its interface into the namespace of the container, asks the IPAM plugin, and sets what
 * it says. When a step fails, the steps before it are undone in reverse order. DEL and GC undo them too, and whatever is
 * not there is no error for them.
 */
import { type Call, ConnectionError, ControlError } from '../control/client.js';
import type { Methods } from '../control/methods.js';
import { errorText } from '../model/errors.js';
import { counted } from '../model/sentences.js';
import { allOrNothing, type UndoStack } from '../model/undo.js';
import { ANY_V4, ANY_V6 } from '../wire/ip.js';
import { attachmentsOf, attachmentText, findVnic, vnicName } from './attachments.js';
import { runIpam } from './delegate.js';
import { asCniError, CniError, CODE } from './errors.js';
import { type Attachment, needAttachment, type Request, wantedMac } from './request.js';
import { type CniResult, EMPTY, joined, readResult, writeResult } from './result.js';
import { configure, differences, moveIn, refuseTaken, withNamespace } from './sandbox.js';

export interface Context {
  readonly request: Request;
  readonly call: Call;
  /** A line for the log of the engine. */
  readonly note: (line: string) => void;
}

/** Each resolves to what is to be printed, and rejects with any error. */
export const RUN = { ADD: add, DEL: remove, CHECK: check, GC: collect, STATUS: status } as const;

// -- ADD

async function add(context: Context): Promise<string> {
  const { request, note } = context;
  const attachment = needAttachment(request.env);
  const before =
    request.config.prevResult === undefined ? EMPTY : readResult(request.config.prevResult, 'prevResult');
  return withNamespace(request.env['CNI_NETNS'] ?? '', async (namespace) => {
    refuseTaken(namespace, attachment.ifname);
    const own = await allOrNothing(
      (undo) => attach(context, attachment, namespace, undo),
      (failure) => {
        note(`${attachment.containerId}: ${errorText(failure)}`);
      },
    );
    return writeResult(request.version, joined(before, own));
  });
}

async function attach(
  { request, call }: Context,
  attachment: Attachment,
  namespace: number,
  undo: UndoStack,
): Promise<CniResult> {
  const { config, env } = request;
  const { overlay, vid, protection } = config;
  const text = attachmentText(config.name, attachment);
  const name = vnicName(text);
  const mac = wantedMac(request);
  await createVnic(call, {
    name,
    over: overlay,
    attachment: text,
    temporary: false,
    ...(mac !== undefined && { mac }),
    ...(vid !== undefined && { vid }),
    ...(protection.length > 0 && { properties: [['protection', protection]] }),
  });
  undo.push(async () => {
    await call('vnic.delete', { name, temporary: false });
  });
  const link = moveIn(namespace, name, attachment.ifname);
  if (config.mtu !== undefined && config.mtu > link.mtuBytes)
    throw new CniError(
      CODE.INVALID_CONFIG,
      `mtu ${config.mtu} is more than ${overlay} carries: ${link.mtuBytes}`,
    );
  // A plugin that fails may have begun.
  undo.push(() => {
    runIpam(request, 'DEL');
  });
  const { ips, routes, dns } = runIpam(request);
  const addresses = ips.map(({ address }) => address.replace(/\/.*/s, ''));
  if (protection.includes('ip-nospoof') && addresses.length > 0)
    await call('linkprop.set', { name, temporary: false, properties: [['allowed-ips', addresses]] });
  configure(namespace, attachment.ifname, { ips, routes }, config);
  const { vnics } = await call('vnic.list', { names: [name] });
  const [vnic] = vnics;
  const sandbox = env['CNI_NETNS'] ?? '';
  const mtu = config.mtu ?? link.mtuBytes;
  return {
    interfaces: [{ name: attachment.ifname, mac: vnic.mac, mtu, sandbox }],
    ips: ips.map((ip) => ({ ...ip, interface: 0 })),
    routes,
    // A value of the operator takes the place of one of the IPAM plugin.
    dns: { ...dns, ...config.dns },
    varpd: { overlay, vnic: name, mapping: await mappingEntry(call, overlay, vnic.mac, addresses) },
  };
}

async function createVnic(call: Call, params: Methods['vnic.create']['params']): Promise<void> {
  try {
    await call('vnic.create', params);
  } catch (error) {
    const { over } = params;
    if (!isNotFound(error)) throw error;
    throw new CniError(
      CODE.INVALID_CONFIG,
      `there is no overlay ${over}`,
      `create it: dladm create-overlay ... ${over}`,
    );
  }
}

const isNotFound = (error: unknown): boolean => error instanceof ControlError && error.reason === 'NOT_FOUND';

/** The entry that a mapping file of the plugin `files` needs for this VNIC, as far as this host knows it. */
async function mappingEntry(call: Call, overlay: string, mac: string, addresses: readonly string[]) {
  const { overlays } = await call('overlay.list', { names: [overlay] });
  const valueOf = (name: string): string | undefined =>
    overlays[0]?.properties.find(({ property }) => property.endsWith(`/${name}`))?.value ?? undefined;
  const [ip, port] = [valueOf('listen_ip'), valueOf('listen_port')];
  const arp = addresses.find((address) => !address.includes(':'));
  const ndp = addresses.find((address) => address.includes(':'));
  const entry = {
    ...(ip !== undefined && ip !== ANY_V4 && ip !== ANY_V6 && { ip }),
    ...(port !== undefined && { port: Number(port) }),
    ...(arp !== undefined && { arp }),
    ...(ndp !== undefined && { ndp }),
  };
  return { [mac]: entry };
}

// -- DEL, GC

async function remove(context: Context): Promise<string> {
  const attachment = needAttachment(context.request.env);
  // Without varpd nothing is released: another container could get an address that is in use still.
  await findVnic(context.call, attachmentText(context.request.config.name, attachment));
  // First, since a DHCP client needs the interface to give its lease back.
  runIpam(context.request);
  await deleteVnic(context, attachment);
  return '';
}

/** Does nothing when varpd has no VNIC of this attachment. */
async function deleteVnic({ request, call }: Context, attachment: Attachment): Promise<void> {
  const vnic = await findVnic(call, attachmentText(request.config.name, attachment));
  if (vnic === undefined) return;
  try {
    await call('vnic.delete', { name: vnic.name, temporary: false });
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
}

/** Removes as much as it can, and reports everything that has failed. */
async function collect(context: Context): Promise<string> {
  const { request, call } = context;
  const { config } = request;
  const given = config['cni.dev/valid-attachments'] ?? config['cni.dev/attachments'];
  // Without the list nothing would be valid, and every container would lose its network.
  if (given === undefined)
    throw new CniError(CODE.INVALID_CONFIG, 'GC needs the list cni.dev/valid-attachments');
  const failures: CniError[] = [];
  const attempt = async (step: () => void | Promise<void>): Promise<void> => {
    try {
      await step();
    } catch (error) {
      failures.push(asCniError(error));
    }
  };
  const valid = new Set(
    given.map(({ containerID, ifname }) => attachmentText(config.name, { containerId: containerID, ifname })),
  );
  for (const attachment of await attachmentsOf(call, config.name)) {
    if (valid.has(attachmentText(config.name, attachment))) continue;
    await attempt(() => {
      runIpam(request, 'DEL', attachment);
    });
    await attempt(() => deleteVnic(context, attachment));
  }
  await attempt(() => {
    runIpam(request);
  });
  const first = failures.at(0);
  if (first === undefined) return '';
  const details = failures.map(({ message, details }) =>
    details === '' ? message : `${message}: ${details}`,
  );
  throw new CniError(first.code, `GC: ${counted(failures.length, 'step')} failed`, details.join('; '));
}

// -- CHECK, STATUS

async function check({ request, call }: Context): Promise<string> {
  const attachment = needAttachment(request.env);
  const { config, env } = request;
  if (config.prevResult === undefined) throw new CniError(CODE.INVALID_CONFIG, 'CHECK needs prevResult');
  const before = readResult(config.prevResult, 'prevResult');
  const { ifname } = attachment;
  const sandbox = env['CNI_NETNS'] ?? '';
  const index = before.interfaces.findIndex((one) => one.name === ifname && one.sandbox === sandbox);
  if (index < 0)
    throw new CniError(CODE.INVALID_CONFIG, `prevResult has no interface ${ifname} in ${sandbox}`);
  const ips = before.ips.filter((ip) => ip.interface === index);
  const text = attachmentText(config.name, attachment);
  const vnic = await findVnic(call, text);
  const found =
    vnic === undefined
      ? [`varpd has no VNIC of ${text}`]
      : vnic.state === 'up'
        ? []
        : [`${vnic.name}: ${vnic.state}`];
  const { mac } = before.interfaces[index];
  await withNamespace(sandbox, (namespace) => {
    found.push(...differences(namespace, ifname, mac, { ips, routes: before.routes }));
    return Promise.resolve();
  });
  if (found.length > 0) throw new CniError(CODE.CHECK_FAILED, found[0], found.join('; '));
  runIpam(request);
  return '';
}

/** A DEGRADED overlay takes further containers. */
async function status({ request, call }: Context): Promise<string> {
  const { overlay } = request.config;
  const info = await statusOf(call, overlay);
  if (info === undefined) throw new CniError(CODE.NOT_AVAILABLE, `there is no overlay ${overlay}`);
  if (info.status === 'OFFLINE')
    throw new CniError(CODE.LIMITED_CONNECTIVITY, `the overlay ${overlay} is OFFLINE`, info.details ?? '');
  runIpam(request);
  return '';
}

async function statusOf(call: Call, overlay: string) {
  try {
    const { overlays } = await call('overlay.list', { names: [overlay] });
    return overlays.find(({ name }) => name === overlay)?.health;
  } catch (error) {
    if (!(error instanceof ConnectionError)) throw error;
    throw new CniError(CODE.LIMITED_CONNECTIVITY, 'varpd does not answer', error.message);
  }
}
