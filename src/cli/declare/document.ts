/**
 * The document of `dladm export` and `dladm apply`: YAML, or JSON, which is YAML. It is read strictly: an unknown key is an
 * error, and so is a value of the wrong kind. Every error is reported, each as `file:line:column: what was found and what
 * was expected`.
 *
 *     version: 1
 *     overlays:
 *       - name: overlay0
 *         encap: vxlan
 *         search: files
 *         vnetid: 23
 *         properties: { vxlan/listen_ip: 10.88.88.69, files/config: /etc/varpd/hosts.json }
 *         vnics:
 *           - name: foo0
 *             mac: de:ad:be:ef:00:00
 *             properties: { protection: [mac-nospoof, ip-nospoof] }
 */
import { isMap, isNode, isScalar, isSeq, stringify, visit } from 'yaml';
import type { DeclaredOverlay } from '../../control/declared-messages.js';
import { checkName, NAME_RULE } from '../../model/names.js';
import { printable } from '../../model/properties.js';
import { oneOf, wholeNumber } from '../../model/sentences.js';
import { openYaml } from '../../model/yaml.js';
import { parseMac } from '../../wire/mac.js';
import { VNI_MAX } from '../../wire/vxlan.js';
import { ValueError } from '../command.js';
import { MAX_VID } from '../values.js';

const VERSION = 1;
/** Some 10,000 VNICs. */
const MAX_CHARACTERS = 4 * 1024 * 1024;
const KEYS = ['version', 'overlays'] as const;
const OVERLAY_KEYS = ['name', 'encap', 'search', 'vnetid', 'properties', 'vnics'] as const;
const VNIC_KEYS = ['name', 'mac', 'vid', 'properties'] as const;

export interface WantedVnic {
  readonly name: string;
  /** `mac`, `vid` and link properties, with their values. */
  readonly settings: [name: string, values: string[]][];
}

export interface WantedOverlay extends Omit<DeclaredOverlay, 'vnics'> {
  /** `file:line:column` */
  readonly place: string;
  readonly vnics: readonly WantedVnic[];
}

/** Throws a ValueError with a line for each error. */
export function readDocument(text: string, file: string): WantedOverlay[] {
  if (text.length > MAX_CHARACTERS)
    throw new ValueError(`${file} is longer than ${MAX_CHARACTERS} characters`);
  const { document, problem, at } = openYaml(text, file);
  if (problem !== undefined)
    throw new ValueError(`${file} is not valid YAML`, [
      `${at(problem.pos[0])}: ${printable(problem.message)}`,
    ]);
  const reader = new Reader((node) => at(isNode(node) ? (node.range?.[0] ?? 0) : 0));
  visit(document, {
    Alias: (_, alias) => {
      reader.refuse(alias, 'an alias', 'the value itself');
    },
  });
  const overlays = reader.problems.length > 0 ? [] : reader.document(document.contents);
  if (reader.problems.length > 0) throw new ValueError(`${file} is not valid`, reader.problems);
  return overlays;
}

class Reader {
  readonly problems: string[] = [];
  readonly #placeOf: (node: unknown) => string;
  /** Names of overlays and VNICs so far. */
  readonly #names = new Set<string>();

  constructor(placeOf: (node: unknown) => string) {
    this.#placeOf = placeOf;
  }

  refuse(node: unknown, found: string, expected: string): void {
    this.problems.push(`${this.#placeOf(node)}: found ${found}, expected ${expected}`);
  }

  document(node: unknown): WantedOverlay[] {
    const keys = this.#map(node, 'the document', KEYS);
    if (keys === undefined) return [];
    const version = this.#text(keys.get('version') ?? node, 'version');
    if (version !== undefined && version !== String(VERSION))
      this.refuse(keys.get('version') ?? node, `version ${printable(version)}`, `version: ${VERSION}`);
    return this.#list(keys.get('overlays'), 'overlays').flatMap((one) => this.#overlay(one) ?? []);
  }

  #overlay(node: unknown): WantedOverlay | undefined {
    const keys = this.#map(node, 'an overlay', OVERLAY_KEYS);
    if (keys === undefined) return undefined;
    const need = (key: 'encap' | 'search'): string => {
      const at = keys.get(key);
      if (at === undefined) this.problems.push(`${this.#placeOf(node)}: ${key} is missing`);
      return (at === undefined ? undefined : this.#text(at, key)) ?? '';
    };
    const name = this.#name(keys.get('name'), node);
    const vnetid = this.#whole(keys.get('vnetid') ?? node, 'vnetid', VNI_MAX);
    const properties = this.#properties(keys.get('properties')).map(([property, value]): [string, string] => [
      property,
      this.#text(value, property) ?? '',
    ]);
    const vnics = this.#list(keys.get('vnics'), 'vnics').flatMap((one) => this.#vnic(one) ?? []);
    const place = this.#placeOf(node);
    return { place, name, encap: need('encap'), search: need('search'), vnetid, properties, vnics };
  }

  #vnic(node: unknown): WantedVnic | undefined {
    const keys = this.#map(node, 'a VNIC', VNIC_KEYS);
    if (keys === undefined) return undefined;
    const name = this.#name(keys.get('name'), node);
    const settings: [string, string[]][] = [];
    const mac = keys.get('mac');
    if (mac !== undefined) {
      const text = this.#text(mac, 'mac') ?? '';
      if (parseMac(text) === undefined) this.refuse(mac, `'${printable(text)}'`, 'a MAC address');
      settings.push(['mac', [text]]);
    }
    const vid = keys.get('vid');
    if (vid !== undefined) settings.push(['vid', [String(this.#whole(vid, 'vid', MAX_VID))]]);
    for (const [property, value] of this.#properties(keys.get('properties'))) {
      const values = isSeq(value) ? value.items : [value];
      if (property === 'mac' || property === 'vid')
        this.refuse(value, `${property} among the properties`, 'it beside the name');
      settings.push([property, values.map((one) => this.#text(one, property) ?? '')]);
    }
    return { name, settings };
  }

  #name(node: unknown, parent: unknown): string {
    if (node === undefined) {
      this.problems.push(`${this.#placeOf(parent)}: name is missing`);
      return '';
    }
    const name = this.#text(node, 'name');
    if (name === undefined) return '';
    if (checkName(name) !== undefined) this.refuse(node, `'${printable(name)}'`, `a name: ${NAME_RULE}`);
    if (this.#names.has(name)) this.refuse(node, `${printable(name)} again`, 'each name once');
    this.#names.add(name);
    return name;
  }

  #properties(node: unknown): [name: string, value: unknown][] {
    if (node === undefined || (isScalar(node) && node.value === null)) return [];
    if (isMap(node))
      return node.items.map(({ key, value }) => [isScalar(key) ? String(key.value) : String(key), value]);
    this.refuse(node, kindOf(node), 'a map of properties');
    return [];
  }

  #map<Key extends string>(
    node: unknown,
    what: string,
    known: readonly Key[],
  ): ReadonlyMap<Key, unknown> | undefined {
    if (!isMap(node)) {
      this.refuse(node, kindOf(node), `${what}: a map with ${known.join(', ')}`);
      return undefined;
    }
    const keys = new Map<Key, unknown>();
    for (const { key, value } of node.items) {
      const name = isScalar(key) ? String(key.value) : String(key);
      const found = known.find((one) => one === name);
      if (found === undefined) this.refuse(key, `the key ${printable(name)}`, oneOf(known));
      else keys.set(found, value);
    }
    return keys;
  }

  #list(node: unknown, what: string): readonly unknown[] {
    if (node === undefined || (isScalar(node) && node.value === null)) return [];
    if (isSeq(node)) return node.items;
    this.refuse(node, kindOf(node), `${what}: a list`);
    return [];
  }

  #whole(node: unknown, what: string, max: number): number {
    const value = isScalar(node) ? Number(node.value) : NaN;
    if (Number.isInteger(value) && value >= 0 && value <= max) return value;
    this.refuse(node, kindOf(node), `${what}: ${wholeNumber(0, max)}`);
    return 0;
  }

  /** The text of a scalar as it is typed: varpd reads numbers itself. */
  #text(node: unknown, what: string): string | undefined {
    const text = textOf(node);
    if (text === undefined) this.refuse(node, kindOf(node), `${what}: a text or a number`);
    return text;
  }
}

function kindOf(node: unknown): string {
  if (isMap(node)) return 'a map';
  if (isSeq(node)) return 'a list';
  const text = textOf(node);
  return text === undefined ? 'nothing' : `'${printable(text)}'`;
}

function textOf(node: unknown): string | undefined {
  if (!isScalar(node) || node.value === null) return undefined;
  return typeof node.value === 'string' ? node.value : node.source;
}

/** The overlays as a document. */
export function documentOf(overlays: readonly DeclaredOverlay[]): object {
  return {
    version: VERSION,
    overlays: overlays.map(({ name, encap, search, vnetid, properties, vnics }) => ({
      name,
      encap,
      search,
      vnetid,
      properties: Object.fromEntries(properties),
      vnics: vnics.map((vnic) => ({
        name: vnic.name,
        ...(vnic.mac !== undefined && { mac: vnic.mac }),
        ...(vnic.vid !== undefined && vnic.vid !== 0 && { vid: vnic.vid }),
        ...(vnic.properties.length > 0 && { properties: Object.fromEntries(vnic.properties) }),
      })),
    })),
  };
}

export const yamlOf = (document: object): string => stringify(document, { lineWidth: 0 });
