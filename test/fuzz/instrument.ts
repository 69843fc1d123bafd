// Coverage of the project's own code, for the fuzzer: a module loader hook (node:module, register) that counts in every branch.
//
// V8 has counters of its own, but asking for them costs milliseconds; these are read after every input, and know how often. What
// @jazzer.js would do is done here because its prebuilt addon wants a newer glibc (2.38) than Debian 12 has.
import { fileURLToPath } from 'node:url';

import ts from 'typescript';

/** Names of the globals that instrumented code uses; engine.ts makes them. */
export const COUNTERS = 'fuzzCounters';
export const DICTIONARY = 'fuzzDictionary';
export const MAX_COUNTERS = 65_536;

const INSTRUMENTED = /\/dist\/(?:src\/(?:wire|core|control|daemon|io|plugin)|plugins)\/.*\.js$/;
/** Words of a protocol; longer ones are sentences. */
const MAX_WORD = 24;

let next = 1;

interface Loaded {
  readonly format: string;
  readonly source: string | Uint8Array;
  readonly shortCircuit?: boolean;
}

export async function load(
  url: string,
  context: object,
  nextLoad: (url: string, context: object) => Promise<Loaded>,
): Promise<Loaded> {
  const loaded = await nextLoad(url, context);
  if (!INSTRUMENTED.test(url)) return loaded;
  return { ...loaded, source: instrument(Buffer.from(loaded.source).toString(), fileURLToPath(url)) };
}

function instrument(source: string, file: string): string {
  const words = new Set<string | number>();
  const parsed = ts.createSourceFile(file, source, ts.ScriptTarget.ES2023, true, ts.ScriptKind.JS);
  const { transformed } = ts.transform(parsed, [
    (context) => (root) => ts.visitNode(root, visitor(context, words)) as ts.SourceFile,
  ]);
  const text = ts.createPrinter().printFile(transformed[0]);
  return `${text}\nfor (const word of ${JSON.stringify([...words])}) ${DICTIONARY}.add(word);\n`;
}

const { factory: f, SyntaxKind: kind } = ts;

const count = (): ts.Expression =>
  f.createPostfixIncrement(
    f.createElementAccessExpression(f.createIdentifier(COUNTERS), next++ % MAX_COUNTERS),
  );
const counted = (expression: ts.Expression): ts.Expression =>
  f.createParenthesizedExpression(f.createComma(count(), f.createParenthesizedExpression(expression)));
const asBlock = (statement: ts.Statement): ts.Statement =>
  ts.isBlock(statement) ? statement : f.createBlock([f.createExpressionStatement(count()), statement]);

function visitor(context: ts.TransformationContext, words: Set<string | number>): ts.Visitor {
  const visit: ts.Visitor = (node) => {
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) return node;
    if (ts.isNumericLiteral(node) && Number.isInteger(Number(node.text))) words.add(Number(node.text));
    if (ts.isStringLiteral(node) && node.text.length > 1 && node.text.length <= MAX_WORD)
      words.add(node.text);
    const seen = ts.visitEachChild(node, visit, context);
    if (ts.isBlock(seen))
      return f.updateBlock(seen, [f.createExpressionStatement(count()), ...seen.statements]);
    if (ts.isCaseClause(seen))
      return f.updateCaseClause(seen, seen.expression, [
        f.createExpressionStatement(count()),
        ...seen.statements,
      ]);
    if (ts.isIfStatement(seen))
      return f.updateIfStatement(
        seen,
        seen.expression,
        asBlock(seen.thenStatement),
        seen.elseStatement &&
          (ts.isIfStatement(seen.elseStatement) ? seen.elseStatement : asBlock(seen.elseStatement)),
      );
    if (ts.isForStatement(seen))
      return f.updateForStatement(
        seen,
        seen.initializer,
        seen.condition,
        seen.incrementor,
        asBlock(seen.statement),
      );
    if (ts.isForOfStatement(seen))
      return f.updateForOfStatement(
        seen,
        seen.awaitModifier,
        seen.initializer,
        seen.expression,
        asBlock(seen.statement),
      );
    if (ts.isWhileStatement(seen))
      return f.updateWhileStatement(seen, seen.expression, asBlock(seen.statement));
    if (ts.isConditionalExpression(seen))
      return f.updateConditionalExpression(
        seen,
        seen.condition,
        seen.questionToken,
        counted(seen.whenTrue),
        seen.colonToken,
        counted(seen.whenFalse),
      );
    if (ts.isArrowFunction(seen) && !ts.isBlock(seen.body))
      return f.updateArrowFunction(
        seen,
        seen.modifiers,
        seen.typeParameters,
        seen.parameters,
        seen.type,
        seen.equalsGreaterThanToken,
        counted(seen.body),
      );
    const branches: readonly ts.SyntaxKind[] = [
      kind.AmpersandAmpersandToken,
      kind.BarBarToken,
      kind.QuestionQuestionToken,
    ];
    if (ts.isBinaryExpression(seen) && branches.includes(seen.operatorToken.kind))
      return f.updateBinaryExpression(seen, seen.left, seen.operatorToken, counted(seen.right));
    return seen;
  };
  return visit;
}
