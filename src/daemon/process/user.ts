/**
 * Compares the user that varpd runs as with the configured one. Only root can become that user, and it does
 * so before anything else (root.ts).
 */
import { OverlayError } from '../../model/errors.js';
import { placeOf } from '../config-file.js';
import { type Config, DEFAULT_USER } from '../config.js';
import { account } from './accounts.js';

/**
 * Returns a remark for the operator, or undefined when the user is as configured. Throws an OverlayError when
 * this process belongs to another user than the configuration names. If it names none, any user may run
 * varpd.
 */
export function userRemark(config: Config): string | undefined {
  const own = process.geteuid?.() ?? 0;
  const place = placeOf(config, 'user');
  const name = config.user ?? DEFAULT_USER;
  const isChosen = place !== '' && config.user !== null;
  if (own !== 0 && !isChosen) return undefined;
  // Only a configured user is looked up: a default user that does not exist yet must not prevent a restart.
  if (isChosen && account(name, place).uid === own) return undefined;
  if (own === 0)
    return `user: varpd goes on as root, since it was started as root by an older version, or to be root: only a stop and a start make it '${name}'`;
  throw new OverlayError('DENIED', `${place}user: only root can become '${name}', and this is user ${own}`);
}
