/** completion: the script by which a shell completes command lines of dladm, and the candidates that the script asks for. */
import { readFileSync } from 'node:fs';
import { createClient } from '../../control/client.js';
import { defineCommand, UsageError } from '../command.js';
import { complete, SHELLS } from '../completion.js';
import { printable } from '../text.js';

/** A person waits for the answer. */
const ANSWER_MS = 1000;

export const command = defineCommand({
  synopsis: 'completion [--] shell [word...]',
  about:
    `Prints a script with which a shell completes the commands, options, properties and names of dladm: ${SHELLS.join(', ')}. ` +
    'With words, prints the candidates for the last of them instead, and varpd is asked for names. The script calls it so.',
  options: [],
  examples: ['completion bash > /etc/bash_completion.d/dladm', "completion -- bash create-overlay -e ''"],

  async run({ operands }, { print, socket, commands, globals }) {
    const [shell, ...words] = operands;
    if (operands.length === 0) throw new UsageError(`missing shell, expected one of ${SHELLS.join(', ')}`);
    if (!SHELLS.includes(shell))
      throw new UsageError(`unknown shell '${shell}', expected one of ${SHELLS.join(', ')}`);
    if (words.length === 0) {
      // config/ is beside dist/, in which this file is dist/src/cli/commands/completion.js.
      print(readFileSync(new URL(`../../../../config/completion/dladm.${shell}`, import.meta.url), 'utf8'));
      return;
    }
    const call = createClient(socket, { timeoutMs: ANSWER_MS });
    // bash shows no text beside a word.
    const found = await complete(words, { call, commands, globals, isDescribed: shell !== 'bash' });
    const lines =
      found === 'files' ? [] : found.map(({ word, about }) => `${printable(word)}\t${printable(about)}\n`);
    print(`${found === 'files' ? found : 'words'}\n${lines.join('')}`);
  },
});
