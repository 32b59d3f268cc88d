// Preloaded: what the process loads, beyond what Node has, is added to a file, one URL a line.
import { register } from 'node:module';

const hooks = `
  import { appendFileSync } from 'node:fs';
  export async function load(url, context, next) {
    if (!url.startsWith('node:')) appendFileSync(process.env.SPAPR_HTAB_TEST_LOADS, url + '\\n');
    return next(url, context);
  }`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);
