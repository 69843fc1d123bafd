/** Addresses out of text, for networks in memory. */
import { type AddressTable, createTable, put } from '../core/tables/address-table.js';
import { type Endpoint, type IpAddress, parse } from '../wire/ip.js';
import * as vxlan from '../wire/vxlan.js';

export function tableOf(ips: readonly IpAddress[]): AddressTable {
  const table = createTable(ips.length);
  for (const ip of ips) put(table, ip);
  return table;
}

export function endpoint(ip: string, port = vxlan.PORT): Endpoint {
  return { ip: address(ip), port };
}

export function address(text: string): IpAddress {
  const ip = parse(text);
  if (ip === undefined) throw new Error(`not an address: ${text}`);
  return ip;
}
