// What people and programs write: mappings, requests on the control socket, state files, configuration, properties. Each is read
// or refused, in words, with its place; and what JSON refuses, nobody takes.
import { MessageReader } from '../../../src/control/framing.js';
import { METHOD_NAMES, type MethodName } from '../../../src/control/methods.js';
import { parseConfig } from '../../../src/daemon/config-file.js';
import { checkParams } from '../../../src/daemon/control/requests.js';
import { parseState } from '../../../src/daemon/state/state-schema.js';
import { VXLAN } from '../../../src/encap/vxlan.js';
import { OverlayError } from '../../../src/model/errors.js';
import { readLinkValues } from '../../../src/model/link-properties.js';
import { overlaySpecs } from '../../../src/model/overlay-specs.js';
import { PropertySet } from '../../../src/model/properties.js';
import { isJson, isSound, parse } from '../../helpers/mapping.js';
import type { Target } from '../engine.js';

const bytesOf = (...texts: readonly string[]): Uint8Array[] => texts.map((text) => Buffer.from(text));

/** Any other error is ours. */
function refusing(work: () => void): void {
  try {
    work();
  } catch (error) {
    if (!(error instanceof OverlayError) || error.message === '') throw error;
  }
}

const ENTRY = '"arp": ["10.0.0.1"], "ip": "10.88.88.69", "ndp": "fe80::3", "port": 4789';

export const mapping: Target = {
  name: 'mapping',
  seeds: () =>
    bytesOf(
      `{ "de:ad:be:ef:0:0": { ${ENTRY} } }`,
      `{ "2:0:0:0:0:1": { ${ENTRY}, "dhcp-proxy": "2:0:0:0:0:1" }, "2:0:0:0:0:2": { "ip": "2001:db8::1", "port": 1 } }`,
      '{}',
    ),
  run: (bytes) => {
    if (!isSound(bytes)) throw new Error('an error has no place in the file');
    if (!isJson(bytes) && parse(bytes).mapping !== undefined) throw new Error('read what is no JSON');
  },
};

const MAX_LINE_BYTES = 300;

/** The first byte says into which pieces the rest is cut. */
export const control: Target = {
  name: 'control',
  seeds: () =>
    bytesOf(
      ...METHOD_NAMES.map((method) => `@{"jsonrpc":"2.0","id":1,"method":"${method}","params":{}}\n`),
      '@{"jsonrpc":"2.0","id":1,"method":"overlay.create","params":{"name":"a0","encap":"vxlan","search":"direct","vnetid":1,"temporary":true,"properties":[["mtu","1400"]]}}\n',
      '@{"jsonrpc":"2.0","id":"x","method":"vnic.create","params":{"name":"a0","over":"b0","mac":"2:0:0:0:0:1","vid":1,"temporary":false,"properties":[["protection",["mac-nospoof"]]]}}\n',
      '@{"jsonrpc":"2.0","method":"overlay.targets","params":{"name":"a0","after":"0:0:0:0:0:0","limit":1}}\n[]\n\n',
    ),
  run: (bytes) => {
    const step = 1 + (bytes.length === 0 ? 0 : bytes[0] & 0x3f);
    let held = 0;
    const reader = new MessageReader(MAX_LINE_BYTES, {
      message: (value) => {
        held++;
        if (typeof value !== 'object' || value === null) return;
        const { method, params } = value as { method?: unknown; params?: unknown };
        const known = METHOD_NAMES.find((name) => name === method);
        for (const name of known === undefined ? METHOD_NAMES.slice(0, 2) : [known])
          refusing(() => checkParams<MethodName>(name, params));
      },
      problem: () => held++,
    });
    for (let at = 1; at < bytes.length; at += step) reader.push(bytes.subarray(at, at + step));
    reader.end();
    if (held > bytes.length) throw new Error('more messages than bytes');
  },
};

const OVERLAY = {
  version: 1,
  name: 'overlay0',
  id: 1,
  encap: 'vxlan',
  search: 'direct',
  vnetid: 42,
  mac: '02:00:00:00:00:01',
  properties: [['vxlan/listen_ip', '10.0.0.1']],
  vnics: [
    {
      name: 'foo0',
      mac: '02:00:00:00:00:02',
      macType: 'fixed',
      vid: 0,
      properties: [['protection', ['restricted']]],
      leases: [['10.0.0.9', 1234567890123]],
    },
  ],
};

export const state: Target = {
  name: 'state',
  seeds: () => bytesOf(JSON.stringify(OVERLAY), JSON.stringify({ ...OVERLAY, vnics: [] })),
  run: (bytes) => {
    const text = Buffer.from(bytes).toString('utf8');
    let found;
    try {
      found = parseState(text);
    } catch (error) {
      if (!(error instanceof Error) || error.message === '' || error instanceof TypeError) throw error;
      return;
    }
    // What is read is what is written again.
    const again = parseState(JSON.stringify({ version: 1, ...found }));
    if (JSON.stringify(again) !== JSON.stringify(found)) throw new Error('not the same when read again');
  },
};

const CONFIG = `socket: /run/v.sock
stateDir: /var/lib/v
pluginPath: [/a, /b]
group: null
log: { level: debug, format: json, file: null }
limits:
  clients: 3
  maxTargets: 10
`;

export const config: Target = {
  name: 'config',
  seeds: () => bytesOf(CONFIG, '{"socket": "/x"}', ''),
  run: (bytes) => {
    refusing(() => parseConfig(Buffer.from(bytes).toString('utf8'), 'varpd.yaml'));
  },
};

const SPECS = overlaySpecs(VXLAN, [], []);

/** `name=value` a line, as -p has them; the names of links as well as of overlays. */
export const properties: Target = {
  name: 'properties',
  seeds: () =>
    bytesOf(
      'vxlan/listen_ip=10.0.0.1\nvxlan/listen_port=4789\nmtu=1400\noffload=off\nvxlan/accept=any',
      'protection=mac-nospoof,ip-nospoof\nallowed-ips=10.0.0.0/8,fe80::/10\nallowed-dhcp-cids=0xff00,1.1.5.2:0:0:0:0:1,text',
    ),
  run: (bytes) => {
    const lines = Buffer.from(bytes).toString('utf8').split('\n');
    const pairs = lines.map((line): [string, string] => {
      const [name, ...value] = line.split('=');
      return [name, value.join('=')];
    });
    const fixed = { vnetid: 1, encap: 'vxlan', search: 'direct', 'varpd/id': 1 };
    refusing(() => PropertySet.from(SPECS, pairs, fixed).rows());
    refusing(() => readLinkValues(pairs.map(([name, value]) => [name, value.split(',')])));
  },
};
