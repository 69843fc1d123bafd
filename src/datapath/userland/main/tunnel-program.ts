/**
 * The BPF program at the ingress of the tunnel port. It sends each frame to a link: its index is in the source MAC
 * (tunnel-send.c), so that one program serves all links of the underlay. The kernel finds the next hop on that link and
 * writes the Ethernet header (bpf_redirect_neigh, Linux 5.10).
 *
 * The mark of the queue that the frame came from is removed: with it a device with several queues would send the frame by
 * another queue than the datagrams of the same flow, and they would overtake each other.
 */
import {
  ARGUMENT,
  Assembler,
  CALL,
  EXIT,
  LOAD_ABSOLUTE,
  MOVE,
  MOVE_REGISTER,
  MOVE_REGISTER_64,
  R0,
  SIZE,
  STORE,
} from './bpf.js';

/** Register of the context that loads read from. */
const CONTEXT = 6;
/** The last four bytes of the source MAC. */
const LINK_AT = 8;
/** Offset of `queue_mapping` in struct __sk_buff (linux/bpf.h). */
const QUEUE_AT = 12;
/** Number of the helper function bpf_redirect_neigh (linux/bpf.h). */
const REDIRECT_NEIGH = 152;

export function tunnelProgram(): Uint8Array {
  const code = new Assembler();
  code.add(MOVE_REGISTER_64, CONTEXT, ARGUMENT);
  code.add(MOVE, ARGUMENT);
  code.add(STORE, CONTEXT, ARGUMENT, 0, QUEUE_AT);
  code.add(LOAD_ABSOLUTE | SIZE[4], R0, 0, LINK_AT);
  code.add(MOVE_REGISTER, ARGUMENT, R0);
  for (const register of [2, 3, 4]) code.add(MOVE, register); // no parameters, no flags
  code.add(CALL, 0, 0, REDIRECT_NEIGH);
  code.add(EXIT, 0);
  return code.assemble();
}
