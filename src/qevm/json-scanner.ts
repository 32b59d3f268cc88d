/** What a token is; `blank` is a piece of white space. */
export type JsonToken = '{' | '}' | '[' | ']' | ':' | ',' | 'string' | 'value' | 'blank' | 'end';

/** Says what is wrong with a text, and where. */
export class OrderedJsonError extends Error {
  constructor(
    message: string,
    readonly at: number,
    /** Which limit the text exceeds, if that is what is wrong. */
    readonly exceeds?: 'depth' | 'values',
  ) {
    super(`${message} at byte ${at}`);
  }
}

/** Bytes of the longest string or number. Those of QEMU are names, below a hundred. */
const MAX_LITERAL = 1024 * 1024;
/** White space that is passed over at once. */
const MAX_BLANK = 64 * 1024;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const SLASH = 0x2f;
const ASTERISK = 0x2a;

const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?(e[+-]?\d+)?$/i;
const WORDS = { t: ['true', true], f: ['false', false], n: ['null', null] } as const;

/**
 * Takes strict JSON apart, token by token. None of them is long, so that work can pause between any
 * two; the text is never decoded as a whole.
 */
export class JsonScanner {
  readonly #bytes: Buffer;
  /** Where the token begins, and where the next one does. */
  at = 0;
  end = 0;
  token: JsonToken = 'blank';
  /** What a `string` or `value` stands for. */
  value: string | number | boolean | null = null;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /**
   * Goes on to the next token.
   * @throws OrderedJsonError
   */
  next(): JsonToken {
    this.at = this.end;
    this.token = this.#scan();
    return this.token;
  }

  #scan(): JsonToken {
    const bytes = this.#bytes;
    const at = this.end;
    if (at >= bytes.length) return 'end';
    const c = bytes[at] ?? 0;
    switch (c) {
      case 0x20:
      case 0x09:
      case 0x0a:
      case 0x0d:
        return this.#blank();
      case QUOTE:
        return this.#string();
      case 0x7b:
      case 0x7d:
      case 0x5b:
      case 0x5d:
      case 0x3a:
      case 0x2c:
        this.end = at + 1;
        return String.fromCharCode(c) as JsonToken;
      case SLASH: {
        const comment = bytes[at + 1] === SLASH || bytes[at + 1] === ASTERISK;
        throw new OrderedJsonError(comment ? 'InvalidCommentToken' : 'InvalidSymbol', at);
      }
      default:
        return isDigit(c) || c === 0x2d ? this.#number() : this.#word(String.fromCharCode(c));
    }
  }

  #blank(): JsonToken {
    const stop = Math.min(this.#bytes.length, this.at + MAX_BLANK);
    let end = this.at + 1;
    while (end < stop && isBlank(this.#bytes[end] ?? 0)) end++;
    this.end = end;
    return 'blank';
  }

  #string(): JsonToken {
    const bytes = this.#bytes;
    const start = this.at + 1;
    const stop = Math.min(bytes.length, start + MAX_LITERAL);
    let end = start;
    let seen = 0;
    let escaped = false;
    for (let c = bytes[end]; end < stop && c !== QUOTE; c = bytes[end]) {
      if (c === undefined || c < 0x20) {
        const line = c === 0x0a || c === 0x0d;
        throw new OrderedJsonError(line ? 'UnexpectedEndOfString' : 'InvalidCharacter', this.at);
      }
      if (c === BACKSLASH) {
        escaped = true;
        end++;
      }
      seen |= c;
      end++;
    }
    if (end >= stop) {
      const cut = stop === bytes.length;
      throw new OrderedJsonError(cut ? 'UnexpectedEndOfString' : 'too long a string', this.at);
    }
    this.end = end + 1;
    this.value = escaped
      ? this.#unescape()
      : seen < 0x80
        ? bytes.toString('latin1', start, end)
        : bytes.toString('utf8', start, end);
    return 'string';
  }

  /** The platform knows the escapes. */
  #unescape(): string {
    try {
      return JSON.parse(this.#bytes.toString('utf8', this.at, this.end));
    } catch {
      throw new OrderedJsonError('InvalidEscapeCharacter', this.at);
    }
  }

  #number(): JsonToken {
    const bytes = this.#bytes;
    const stop = Math.min(bytes.length, this.at + MAX_LITERAL);
    let end = this.at + 1;
    while (end < stop && isNumeric(bytes[end] ?? 0)) end++;
    if (end - this.at === MAX_LITERAL) throw new OrderedJsonError('too long a number', this.at);
    const text = bytes.toString('latin1', this.at, end);
    if (!NUMBER.test(text)) throw new OrderedJsonError('InvalidNumberFormat', this.at);
    this.end = end;
    this.value = Number(text);
    return 'value';
  }

  #word(first: string): JsonToken {
    const [word, value] = WORDS[first as keyof typeof WORDS] ?? [];
    const end = this.at + (word?.length ?? 0);
    if (word === undefined || this.#bytes.toString('latin1', this.at, end) !== word) {
      throw new OrderedJsonError('InvalidSymbol', this.at);
    }
    this.end = end;
    this.value = value;
    return 'value';
  }
}

function isBlank(c: number): boolean {
  return c === 0x20 || c === 0x0a || c === 0x09 || c === 0x0d;
}

function isDigit(c: number): boolean {
  return c >= 0x30 && c <= 0x39;
}

function isNumeric(c: number): boolean {
  return isDigit(c) || c === 0x2e || c === 0x2b || c === 0x2d || (c | 0x20) === 0x65;
}
