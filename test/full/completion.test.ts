// The completion of dladm in the shells that it is for, on a terminal, with a real varpd: what the tabulator key writes.
import { chmodSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';

import { Daemon, directOverlay, DLADM_MAIN } from '../helpers/daemon.js';
import { skipUnless, skipUnlessNetns } from '../helpers/need.js';
import { Bed } from '../helpers/netns.js';
import { Terminal } from '../helpers/tmux.js';

/** What starts each shell without the files of its user, what loads the completion there, and how it shows that it is ready. */
const SHELLS = [
  ['bash', 'bash --norc --noprofile -i', 'source <(dladm completion bash)'],
  ['zsh', 'zsh -f -i', "PS1='> '; autoload -U compinit; compinit -D; source <(dladm completion zsh)"],
  [
    'fish',
    'fish --no-config -i',
    'set -g fish_autosuggestion_enabled 0; function fish_prompt; echo "> "; end; dladm completion fish | source',
  ],
] as const;

for (const [shell, start, load] of SHELLS) {
  const skip = skipUnlessNetns(['tmux']) || skipUnless({ programs: [shell] });
  await t.test(shell, { skip }, async (t) => {
    const bed = new Bed();
    t.teardown(() => bed.cleanup());
    const [host] = await bed.twoHosts();
    const daemon = (await Daemon.start(bed, host)).explain(t);
    await daemon.ok(directOverlay({ from: host.underlay.v4, to: '10.88.88.70', name: 'network0' }));
    await daemon.ok('create-vnic -l network0 station0');

    const directory = bed.directory();
    const program = path.join(directory, 'dladm');
    writeFileSync(program, `#!/bin/sh\nexec '${process.execPath}' '${DLADM_MAIN}' "$@"\n`);
    writeFileSync(path.join(directory, 'unique-mapping.json'), '{}');
    chmodSync(program, 0o755);
    const terminal = await Terminal.start(t, bed.directory(), daemon.socket, { columns: 200 });
    await terminal.shell('unalias dladm');
    const own = `cd ${directory}; export PATH=${directory}:$PATH VARPD_SOCKET=${daemon.socket} HOME=${directory} PS1='> '`;
    await terminal.shell(own);
    await terminal.type(`clear; exec ${start}`);
    await terminal.shows(/[>$#%] *$/m);
    await terminal.type(`${load}; clear; echo load''ed`);
    await terminal.shows(/^loaded/m);

    /** Types a part of a line and the tabulator key, and waits for the line; then takes it back. */
    const completes = async (typed: string, line: RegExp): Promise<void> => {
      await terminal.write(typed);
      await terminal.press('Tab');
      await terminal.shows(line);
      t.pass(`${typed} -> ${line.source}`);
      await terminal.press('C-u');
    };
    await completes('dladm show-ov', /dladm show-overlay$/m);
    await completes('dladm delete-overlay net', /dladm delete-overlay network0/);
    await completes('dladm delete-vnic -t st', /dladm delete-vnic -t station0/);
    await completes('dladm show-overlay --fm', /dladm show-overlay --fma/);
    await completes('dladm create-overlay -e gen', /dladm create-overlay -e geneve/);
    await completes('dladm create-overlay --encap=gen', /dladm create-overlay --encap=geneve/);
    await completes('dladm create-overlay -s fil', /dladm create-overlay -s files/);
    await completes('dladm create-overlay -p queu', /dladm create-overlay -p queues=/);
    await completes('dladm create-overlay -p offload=of', /dladm create-overlay -p offload=off/);
    await completes(
      'dladm set-linkprop -p protection=mac-nospoof,restr',
      /dladm set-linkprop -p protection=mac-nospoof,restricted/,
    );
    await completes('dladm check-mapping uniq', /dladm check-mapping unique-mapping\.json/);
    await completes(
      'dladm create-overlay -s files -p files/config=uniq',
      /dladm create-overlay -s files -p files\/config=unique-mapping\.json/,
    );
    await completes('dladm create-overlay -s fi', /dladm create-overlay -s files/);
  });
}
