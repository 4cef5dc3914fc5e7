// JSON in which money keeps every digit: JSON.parse would read a dollar amount through a double.

const MONEY_FIELDS = new Set(['"estimated_cost_usd"', '"cost_usd"', '"total_cost"']);
const MONEY = /"(?:estimated_cost_usd|cost_usd|total_cost)"\s*:/;
/** Fields whose content is the caller's own JSON, and stays as it was sent. */
const OPAQUE_FIELDS = new Set(['"metadata"', '"old_values"', '"new_values"']);
const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\]:,]|[^\s"{}[\]:,]+/g;

/** Parses an answer; money becomes decimal text. @internal */
export function parseExact(text: string): unknown {
  return JSON.parse(MONEY.test(text) ? quoteMoney(text) : text);
}

function quoteMoney(text: string): string {
  const pieces: string[] = [];
  let copied = 0;
  let depth = 0;
  let opaqueFrom = Infinity;
  let key = '';
  let last = '';
  for (const match of text.matchAll(TOKEN)) {
    const token = match[0];
    if (token === ':') {
      key = last;
    } else if (token === '{' || token === '[') {
      depth += 1;
      if (last === ':' && OPAQUE_FIELDS.has(key) && depth < opaqueFrom) {
        opaqueFrom = depth;
      }
    } else if (token === '}' || token === ']') {
      depth -= 1;
      if (depth < opaqueFrom) {
        opaqueFrom = Infinity;
      }
    } else if (last === ':' && depth < opaqueFrom && MONEY_FIELDS.has(key) && token !== 'null' && !token.startsWith('"')) {
      pieces.push(text.slice(copied, match.index), `"${token}"`);
      copied = match.index + token.length;
    }
    last = token;
  }
  return pieces.join('') + text.slice(copied);
}
