// The agent of each namespace (agent.ts), and its jobs. A program for each of them would take more time than most have to do.
import { fromRoot } from './need.js';
import type { Namespace } from './netns.js';
import { type Child, PATIENCE_MS, waitUntil } from './process.js';

const AGENT = fromRoot('dist/test/helpers/agent.js');
const STEP_MS = 5;

type Event = Readonly<Record<string, unknown>>;

/** What an agent does, until it is done. */
export class Job {
  /** What it has said. */
  readonly events: Event[] = [];
  readonly #agent: Agent;
  readonly #id: number;

  constructor(agent: Agent, id: number) {
    this.#agent = agent;
    this.#id = id;
  }

  #ended(): boolean {
    const last = this.events.at(-1);
    if (typeof last?.['error'] === 'string') throw new Error(`agent: ${last['error']}`);
    if (last?.['done'] === true) return true;
    this.#agent.checkLife();
    return false;
  }

  /** Until it has said so much. */
  async said(isEnough: () => boolean, what: string, timeoutMs = PATIENCE_MS): Promise<void> {
    const isSo = (): boolean => this.#ended() || isEnough();
    await waitUntil(isSo, { timeoutMs, stepMs: STEP_MS, what });
  }

  /** Where it listens. */
  async port(): Promise<number> {
    await this.said(() => this.events.length > 0, 'an agent to listen');
    return this.events[0]['ready'] as number;
  }

  /** All that it said. One that takes longer is stopped. */
  async done(timeoutMs: number): Promise<readonly Event[]> {
    try {
      await waitUntil(() => this.#ended(), { timeoutMs, stepMs: STEP_MS, what: 'an agent' });
    } catch (error) {
      this.stop();
      throw error;
    }
    return this.events.slice(0, -1);
  }

  /** Of one that listens. */
  stop(): void {
    this.#agent.start('stop', { job: this.#id });
  }
}

export class Agent {
  readonly #child: Child;
  readonly #jobs = new Map<number, Job>();
  #lastId = 0;

  constructor(host: Namespace) {
    const line = (text: string): void => {
      const { id, ...event } = JSON.parse(text) as { id: number };
      this.#jobs.get(id)?.events.push(event);
    };
    this.#child = host.spawn([process.execPath, AGENT], { line }, 'pipe');
  }

  get hasEnded(): boolean {
    return this.#child.ended;
  }

  start(role: string, settings: object): Job {
    const id = ++this.#lastId;
    const job = new Job(this, id);
    this.#jobs.set(id, job);
    this.#child.write(`${JSON.stringify({ id, role, ...settings })}\n`);
    return job;
  }

  end(): void {
    this.#child.signal('SIGKILL');
  }

  checkLife(): void {
    if (this.hasEnded) throw new Error(`the agent has ended: ${this.#child.stderr}`);
  }
}

const agents = new Map<Namespace, Agent>();

/** Ends all agents of this process, which otherwise end with their namespaces. */
export function endAgents(): void {
  for (const agent of agents.values()) agent.end();
  agents.clear();
}

/** Of this namespace, until the namespace goes. */
export function startJob(host: Namespace, role: string, settings: object): Job {
  const known = agents.get(host);
  const agent = known === undefined || known.hasEnded ? new Agent(host) : known;
  agents.set(host, agent);
  return agent.start(role, settings);
}
