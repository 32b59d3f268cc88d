/** Options of cli-table3 for a table without lines and colours. */
export const PLAIN = { style: { head: [], border: [] }, chars: borderless() };

function borderless(): Record<string, string> {
  const names = ['top', 'bottom', 'left', 'right', 'mid', 'top-mid', 'top-left', 'top-right'];
  const more = ['bottom-mid', 'bottom-left', 'bottom-right', 'left-mid', 'mid-mid', 'right-mid'];
  return { ...Object.fromEntries([...names, ...more].map((name) => [name, ''])), middle: ' ' };
}
