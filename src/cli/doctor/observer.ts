/** Says who looks, whether varpd answers, with which rights, and whether the clock was set meanwhile. */
import type { DaemonStatus } from '../../control/daemon-messages.js';
import { fail, ok, type Plain, skip, warn } from './finding.js';
import { runs, type Subject } from './subject.js';
import { type ProcessFacts, statOf, userText } from './system.js';

export interface ObserverFacts extends Pick<Subject, 'socket' | 'dladm' | 'varpd'> {
  /** Version of dladm. */
  readonly version: string;
  /** A socket file is at `socket`. */
  readonly hasSocketFile: boolean;
}

/** A leap second, or a process that had to wait for its answer, is no change of the clock. */
const MAX_DRIFT_MS = 2000;

export function readObserver({ socket, dladm, varpd }: Subject, version: string): ObserverFacts {
  return { socket, dladm, varpd, version, hasSocketFile: statOf(socket)?.isSocket() === true };
}

export function checkObserver(facts: ObserverFacts): Plain[] {
  return [observer(facts), ...varpdFindings(facts), rights(facts), clock(facts)];
}

/** False: what doctor sees of links and routes is not what varpd sees. */
export function isSameNetwork({ dladm, varpd }: Pick<Subject, 'dladm' | 'varpd'>): boolean {
  if (!runs(varpd)) return true;
  const network = varpd.process?.network;
  return network === undefined || dladm.network === undefined || network === dladm.network;
}

function observer({ dladm, varpd }: ObserverFacts): Plain {
  const looks = `dladm looks as ${userText(dladm.uid)}`;
  const answers = runs(varpd) ? `, varpd answers as process ${varpd.status.pid}` : '';
  if (dladm.uid === 0) return ok('OBSERVER', `${looks}${answers}`);
  return skip('OBSERVER', `${looks}${answers}: what only root may see is left out`, 'run it as root');
}

function varpdFindings({ socket, varpd, version, dladm, hasSocketFile }: ObserverFacts): Plain[] {
  if (!runs(varpd) && varpd.isDenied)
    return [
      skip('VARPD', varpd.why, 'run it as root'),
      skip('VARPD-VERSION', 'varpd may not be asked'),
      skip('LEFTOVER-SOCKET', 'varpd may not be asked'),
    ];
  if (!runs(varpd) && varpd.isHung)
    return [
      fail(
        'VARPD',
        varpd.why,
        'see its log, and ps -C varpd -o pid,stat (T: it was stopped, kill -CONT PID); varpd stop ends it',
      ),
      skip('VARPD-VERSION', 'varpd does not answer'),
      ok('LEFTOVER-SOCKET', `${socket} is in use`),
    ];
  if (!runs(varpd)) {
    const advice = 'start it: systemctl start varpd, or varpd; dladm --socket PATH if it has another socket';
    const leftover = hasSocketFile
      ? warn(
          'LEFTOVER-SOCKET',
          `${socket} is there, and no varpd answers on it`,
          'the next start of varpd replaces it',
        )
      : ok('LEFTOVER-SOCKET', `no socket is left at ${socket}`);
    return [fail('VARPD', varpd.why, advice), skip('VARPD-VERSION', 'varpd does not answer'), leftover];
  }
  const { status, process: seen } = varpd;
  const since = `varpd ${status.version} has run since ${status.startedAt}`;
  return [
    ok('VARPD', `${since}${seen === undefined ? '' : ` as ${userText(seen.uid)}`}`),
    status.version === version
      ? ok('VARPD-VERSION', `varpd and dladm are version ${version}`)
      : warn('VARPD-VERSION', `varpd is version ${status.version}, installed is ${version}`, 'dladm restart'),
    network(dladm.network, seen),
    ok('LEFTOVER-SOCKET', `${socket} is in use`),
  ];
}

function network(own: string | undefined, seen: ProcessFacts | undefined): Plain {
  if (own === undefined || seen?.network === undefined)
    return skip('NAMESPACE', 'only root sees the network namespace of varpd', 'run it as root');
  return own === seen.network
    ? ok('NAMESPACE', 'dladm is in the network namespace of varpd')
    : fail(
        'NAMESPACE',
        'dladm is in another network namespace than varpd: links, routes and firewalls of varpd are not seen',
        `nsenter -t ${seen.pid} -n dladm doctor`,
      );
}

function rights({ dladm, varpd }: ObserverFacts): Plain {
  const advice = 'a container needs --cap-add NET_ADMIN, a unit AmbientCapabilities=CAP_NET_ADMIN';
  if (runs(varpd)) {
    const { process: seen } = varpd;
    if (seen === undefined) return skip('RIGHTS', 'the process of varpd is not seen from here');
    return seen.hasNetAdmin
      ? ok('RIGHTS', 'varpd has CAP_NET_ADMIN')
      : fail('RIGHTS', 'varpd has no CAP_NET_ADMIN', advice);
  }
  return dladm.mayHaveNetAdmin
    ? ok('RIGHTS', 'a varpd that root starts here can have CAP_NET_ADMIN')
    : fail('RIGHTS', 'no process that is started here can have CAP_NET_ADMIN, root included', advice);
}

function clock({ varpd }: ObserverFacts): Plain {
  if (!runs(varpd)) return skip('CLOCK', 'varpd does not answer');
  const { startedAt, uptimeSeconds } = varpd.status as Pick<DaemonStatus, 'startedAt'> &
    Partial<DaemonStatus>;
  // A varpd that was started before dladm was replaced may not say it.
  if (uptimeSeconds === undefined)
    return skip('CLOCK', 'this varpd does not say how long it has run', 'dladm restart');
  const driftMs = varpd.answeredAtMs - Date.parse(startedAt) - uptimeSeconds * 1000;
  if (Math.abs(driftMs) <= MAX_DRIFT_MS) return ok('CLOCK', 'the clock was not set since varpd started');
  const seconds = Math.round(Math.abs(driftMs) / 1000);
  return warn(
    'CLOCK',
    `the clock was set ${driftMs > 0 ? 'forward' : 'back'} by ${seconds} s since varpd started, or this host slept`,
    'log lines and leases from before are off by that; timedatectl says whether the clock is kept',
  );
}
