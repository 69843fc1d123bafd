/** The content of a state file: the operator's settings, as far as they must survive a restart. */
import * as z from 'zod';
import { errorText } from '../../model/errors.js';
import { checkName } from '../../model/names.js';
import { VNI_MAX } from '../../wire/vxlan.js';

/** Raised when an older varpd would misread the file. */
export const STATE_VERSION = 1;

const name = z.string().refine((text) => checkName(text) === undefined, 'expected the name of a link');
const mac = z.string().regex(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/, 'expected a MAC address');

/** An address, and the end of its lease in ms of Unix time; null = never. */
const lease = z.tuple([z.string(), z.number().nullable()]);

const vnicSchema = z.strictObject({
  name,
  mac,
  macType: z.enum(['fixed', 'random']),
  vid: z.int().min(0).max(4094),
  /** Link properties that were set, in their canonical spelling. */
  properties: z.array(z.tuple([z.string(), z.array(z.string())])).exactOptional(),
  /** Leases that a DHCP server has granted, as far as the protection of the VNIC depends on them. */
  leases: z.array(lease).exactOptional(),
  /** Set for a VNIC in another network namespace: its purpose there. Its interface is never made again. */
  attachment: z.string().exactOptional(),
});

const overlaySchema = z.strictObject({
  version: z.literal(STATE_VERSION),
  name,
  /** `varpd/id` */
  id: z.int().min(1).max(0x7fff_ffff),
  encap: z.string().max(31),
  search: z.string().max(31),
  vnetid: z.int().min(0).max(VNI_MAX),
  /** MAC of the overlay's own port. */
  mac,
  /**
   * Properties that the operator typed. Defaults are found again at each start, since the MTU of the route
   * may have changed.
   */
  properties: z.array(z.tuple([z.string(), z.string()])),
  vnics: z.array(vnicSchema),
});

export type StoredLease = z.infer<typeof lease>;
export type StoredVnic = Readonly<z.infer<typeof vnicSchema>>;
export type StoredOverlay = Readonly<Omit<z.infer<typeof overlaySchema>, 'version' | 'vnics'>> & {
  readonly vnics: readonly StoredVnic[];
};

/** Where in the file: the path of a value, or a character. */
interface Place {
  readonly at?: readonly PropertyKey[];
  readonly offset?: number;
}

/** An error in the content of a state file, and its place. */
export class StateProblem extends Error {
  override readonly name = 'StateProblem';
  readonly at: readonly PropertyKey[];
  readonly offset: number | undefined;

  constructor(message: string, { at = [], offset }: Place = {}) {
    super(message);
    this.at = at;
    this.offset = offset;
  }
}

/** Throws a StateProblem, which does not quote the content. */
export function parseState(text: string): StoredOverlay {
  if (text === '') throw new StateProblem('it is empty');
  const value = parseJson(text);
  const version =
    typeof value === 'object' && value !== null && 'version' in value ? value.version : undefined;
  if (version !== STATE_VERSION)
    throw new StateProblem(`it has another version than ${STATE_VERSION}, which this varpd reads`, {
      at: ['version'],
    });
  const parsed = overlaySchema.safeParse(value);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    // The name of an unknown key is content, and is not quoted.
    const said = issue.code === 'unrecognized_keys' ? 'a key that is not known' : issue.message;
    throw new StateProblem(`${issue.path.map(String).join('.') || 'the file'}: ${said}`, { at: issue.path });
  }
  return parsed.data;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const position = /at position (\d+)/.exec((error as Error).message)?.[1];
    throw new StateProblem(errorText(error), {
      offset: position === undefined ? text.length : Number(position),
    });
  }
}
