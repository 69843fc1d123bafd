/** The start of an instance: what it needs, what it gets, and the errors of a start that fails. */
import { asOverlayError, OverlayError } from '../../model/errors.js';
import { printable } from '../../model/properties.js';
import type { Instance, LookupPlugin, PluginContext } from '../../plugin/contract.js';
import type { Log } from '../log.js';
import { hiddenPathHint, sentenceWithCauses } from '../system-error.js';
import type { Properties } from '../../plugin/properties.js';
import type { Ask } from './carry-out.js';
import { DeadlineError } from './deadline.js';
import { AnswerError } from './plugin-answer.js';

/** A sentence of a plugin that is shown in one line. */
const MAX_SENTENCE_CHARACTERS = 256;

/** Files that plugins may use. */
export interface PluginFiles {
  /** The directory that the plugin of this name alone uses. */
  readonly stateDir: (plugin: string) => string;
  /** Rejects with an Error that does not quote the secret. */
  readonly secret: (name: string) => Promise<string>;
}

/** The context that the instances of a plugin get together (`LookupPlugin.open`). */
export function sharedContext(
  plugin: string,
  { files, log }: { readonly files: PluginFiles; readonly log: Log },
): PluginContext {
  const say = (level: 'info' | 'warn' | 'error') => (message: string) => {
    log[level](`plugin ${plugin}`, `plugin ${plugin}: ${message}`);
  };
  return {
    log: { info: say('info'), warn: say('warn'), error: say('error') },
    get stateDir() {
      return files.stateDir(plugin);
    },
    secret: files.secret,
  };
}

/** Rejects with an OverlayError that has the sentence of the plugin, if it does not take these values together. */
export async function refuseTogether(plugin: LookupPlugin, values: Properties, ask: Ask): Promise<void> {
  if (typeof plugin.refuse !== 'function') return;
  const sentence: unknown = await ask<unknown>(() => plugin.refuse?.(values));
  if (sentence === undefined) return;
  const text = typeof sentence === 'string' ? sentence : 'the plugin does not say why';
  const line = `invalid properties: ${printable(text, MAX_SENTENCE_CHARACTERS)}`;
  throw new OverlayError('INVALID', line, [line]);
}

/** Throws an AnswerError that says what an instance lacks. */
export function checkMethods({ mode }: LookupPlugin, instance: Instance): void {
  const needed = ['start', 'stop', ...(mode === 'point' ? (['defaultDestination'] as const) : [])] as const;
  const absent = needed.filter((name) => typeof instance[name] !== 'function');
  if (absent.length > 0) throw new AnswerError(`has no ${absent.join(', ')}`);
}

/** To be called after the start, since the methods of an instance in another process are known then. Throws an
 * AnswerError when its properties may change and it does not take new values. */
export function checkChange({ properties }: LookupPlugin, instance: Instance): void {
  const changeable = properties.find((spec) => spec.changeable === true);
  if (changeable !== undefined && typeof instance.change !== 'function')
    throw new AnswerError(`has no change, and its property ${changeable.name} is changeable`);
}

/** Returns the error of a start that failed, in the words of create-overlay. */
export function startError(error: unknown): OverlayError {
  if (OverlayError.is(error)) return error;
  const plain = asOverlayError(error);
  const code = error instanceof DeadlineError ? 'AGAIN' : plain.code;
  const line = `failed to activate varpd instance: ${sentenceWithCauses(error)}${hiddenPathHint(plain)}`;
  return new OverlayError(code, line, [line], error);
}
