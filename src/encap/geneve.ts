/** Geneve, RFC 8926: a header of eight bytes, then options. varpd sends no options, and ignores those that it
 * may ignore. */
import * as geneve from '../wire/geneve.js';
import type { Encapsulation } from './contract.js';

export const GENEVE: Encapsulation = {
  name: 'geneve',
  title: 'Geneve',
  defaultPort: geneve.PORT,
  maxId: geneve.VNI_MAX,
  headerBytes: geneve.HEADER_BYTES,
  // RFC 8926 3.4: version 0, options of any length, no flag, an Ethernet frame.
  rule: {
    baseBytes: geneve.HEADER_BYTES,
    lengthMask: geneve.OPTIONS_MASK,
    unitBytes: geneve.OPTION_UNIT_BYTES,
    plainMask: 0xc0ff_ffff,
    plain: geneve.ETHERNET,
  },
  writeHeader: geneve.writeHeader,
  check: geneve.check,
  id: geneve.vni,
  hasReservedBits: geneve.hasReservedBits,
};
