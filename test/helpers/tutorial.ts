// The tutorial in a document, as a program for bash: files are written, commands are typed, and the output that the document shows
// is expected.

export interface Tutorial {
  readonly script: string;
  /** Lines that the document shows as output, in their order. */
  readonly output: readonly string[];
}

/** `File ...:` before a block names the file that it is. A block of `sh` is typed, a block of `text` is output. */
export function tutorialIn(document: string): Tutorial {
  const script = ['set -e'];
  const output: string[] = [];
  const block = /(?:^File `([^`]+)`:\n\n)?^```(\w+)\n(.*?)^```$/gms;
  for (const match of document.matchAll(block)) {
    const [, file, language, text] = match as unknown as [string, string | undefined, string, string];
    if (file !== undefined) script.push(`cat > '${file}' <<'END-OF-FILE'`, text + 'END-OF-FILE');
    else if (language === 'sh') script.push(text);
    else if (language === 'text') output.push(...text.trimEnd().split('\n'));
  }
  return { script: script.join('\n'), output };
}
