// Preloaded: what the process loads, beyond what Node has, is added to a file, one URL a line.
import { appendFileSync } from 'node:fs';
import Module, { register } from 'node:module';
import { pathToFileURL } from 'node:url';

const note = (url) => appendFileSync(process.env.SPAPR_HTAB_TEST_LOADS, `${url}\n`);

const hooks = `
  import { appendFileSync } from 'node:fs';
  export async function load(url, context, next) {
    if (!url.startsWith('node:')) appendFileSync(process.env.SPAPR_HTAB_TEST_LOADS, url + '\\n');
    return next(url, context);
  }`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);

const { '.js': loadScript } = Module._extensions;
Module._extensions['.js'] = (module, path) => {
  note(pathToFileURL(path).href);
  loadScript(module, path);
};
